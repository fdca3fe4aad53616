"""What workers answer reaches whoever asked, whatever becomes of them afterwards."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from threading import Thread
from typing import Any

import pytest

from pipelines.cluster.executor import DaskExecutor


class Asked:
    """A dask future whose worker answers, and dies before anybody looks at the future again."""

    def __init__(self, answer: object) -> None:
        self.status = "pending"
        self.cancelled_by_us = False
        self._answer = answer

    async def result(self) -> object:
        await asyncio.sleep(0)
        self.status = "lost"
        if isinstance(self._answer, BaseException):
            self.status = "cancelled"
            raise self._answer
        return self._answer

    def cancel(self) -> None:
        self.cancelled_by_us = True


class StandIn:
    """A client with a loop of its own; `submit` calls at once."""

    def __init__(self) -> None:
        self.loop = self
        self.asked: list[Asked] = []
        self.held = False
        """Whether nothing is to be answered for now."""

    def submit(self, fn: Callable[..., object], *args: object, **options: object) -> Asked:
        assert options == {"pure": False, "retries": 0}
        self.asked.append(Asked(fn(*args)))
        return self.asked[-1]

    def add_callback(self, fn: Callable[..., Coroutine[Any, Any, None]], *args: object) -> None:
        if not self.held:
            thread = Thread(target=lambda: asyncio.run(fn(*args)))
            thread.start()
            thread.join()

    def cancel(self, asked: list[Asked]) -> None:
        for one in asked:
            one.cancel()


def ask(client: StandIn, answer: object) -> "Future[object]":
    executor = DaskExecutor(client)  # type: ignore[arg-type]
    return executor.submit(lambda: answer)


def test_an_answer_counts_though_its_worker_died_since() -> None:
    assert ask(StandIn(), "a part").result(timeout=5) == "a part"


def test_an_error_is_raised_where_the_answer_is_asked_for() -> None:
    error = ask(StandIn(), ValueError("no such clip")).exception(timeout=5)
    assert str(error) == "no such clip"


@pytest.mark.parametrize("gone", [CancelledError(), asyncio.CancelledError()], ids=["dask", "loop"])
def test_what_the_scheduler_cancels_is_cancelled(gone: BaseException) -> None:
    client = StandIn()
    with pytest.raises(CancelledError):
        ask(client, gone).result(timeout=5)
    assert not client.asked[0].cancelled_by_us, "the scheduler, which may be gone, was asked again"


def test_who_cancels_stops_the_work() -> None:
    client = StandIn()
    client.held = True
    assert ask(client, "never").cancel()
    assert client.asked[0].cancelled_by_us


def test_shutting_down_stops_the_work() -> None:
    client = StandIn()
    client.held = True
    executor = DaskExecutor(client)  # type: ignore[arg-type]
    executor.submit(lambda: "never")
    executor.shutdown()
    assert client.asked[0].cancelled_by_us
