"""Dask's client as an executor: what a worker answered is kept, even where it dies the next moment."""

import asyncio
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future, InvalidStateError
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar
from weakref import WeakSet

from distributed import Client
from distributed import Future as DaskFuture

_P = ParamSpec("_P")
_T = TypeVar("_T")


class DaskExecutor(Executor):
    """Runs functions on a client's workers, each once: whoever submits decides about another try.

    Dask's own executor looks at a future's state after it has the answer. Where the worker that gave it
    has died by then, it takes the answer for an error. Here an answer that arrived counts.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._asked: WeakSet[DaskFuture] = WeakSet()

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Have `fn` called by a worker."""
        asked = self._client.submit(fn, *args, pure=False, retries=0, **kwargs)
        self._asked.add(asked)
        answer: Future[_T] = Future()
        answer.add_done_callback(lambda done: _let_go(asked, done))
        self._client.loop.add_callback(_hand_over, asked, answer)
        return answer

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """Cancel what is asked for."""
        self._client.cancel(list(self._asked))


def _let_go(asked: DaskFuture, answer: "Future[Any]") -> None:
    """Stop work that nobody wants, unless that is known where it is done."""
    if answer.cancelled() and asked.status != "cancelled":
        asked.cancel()


async def _hand_over(asked: DaskFuture, answer: "Future[Any]") -> None:
    """Wait in the client's own loop, and pass on what comes; nobody may want it any more."""
    with suppress(InvalidStateError):
        try:
            result = await asked.result()
        except (CancelledError, asyncio.CancelledError):
            if answer.cancel():
                answer.set_running_or_notify_cancel()  # wakes up who waits for it
        except BaseException as error:  # noqa: BLE001 - it is raised where the answer is asked for
            answer.set_exception(error)
        else:
            answer.set_result(result)
