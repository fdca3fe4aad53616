"""Workers in other processes and on other machines. The one file that imports dask."""

import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import resource_tracker
from threading import Thread
from typing import Any

import dask
from distributed import Client, KilledWorker, Nanny, Scheduler, SpecCluster, get_worker
from distributed.comm.addressing import parse_address, parse_host_port
from distributed.comm.registry import get_backend
from distributed.utils import LoopRunner

from mer_store.errors import MerStoreError, UsageError
from pipelines.interrupt import shielded
from pipelines.machine import gpu_names, n_cpus
from pipelines.part import Report, make_part
from pipelines.work import PartReport, PartWork, Tally

REPORT_EVERY_S = 0.5
CONNECT_S = 10
DEFAULT_PORT = 8786
#: Time a local worker is given to leave. All that matters is committed by then.
LEAVE_S = 1.0
#: Local workers come back within seconds, or never.
COME_BACK_S = 180.0
SAY_AFTER_S = 10.0
QUIET = ("distributed", "distributed.client", "tornado.application", "asyncio")
THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM",
)  # fmt: skip

SETTINGS = {
    # One part is in flight per worker: a worker's death is its own part's, which is split and tried again.
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.worker-saturation": 1.0,
    # A process's memory is mostly the model: dask's own limits would pause it for nothing.
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.target": False,
    "distributed.comm.timeouts.connect": f"{CONNECT_S}s",
    # Threads are set per worker below; dask would set one, and in this process's environment, too.
    "distributed.nanny.pre-spawn-environ": {},
}


def make_part_on_worker(topic: str, work: PartWork) -> PartReport:
    """Make a part on a dask worker, reporting through the scheduler a few times a second."""
    worker = get_worker()
    pending = Tally()
    last_s = time.monotonic()

    def report(tally: Tally) -> None:
        nonlocal pending
        pending += tally
        if time.monotonic() - last_s >= REPORT_EVERY_S:
            send()

    def send() -> None:
        nonlocal pending, last_s
        worker.log_event(topic, _event(pending))
        pending, last_s = Tally(), time.monotonic()

    try:
        return make_part(work, report, noted=True)
    except MerStoreError as error:
        raise type(error)(f"worker on {socket.gethostname()}: {error}") from error
    finally:
        send()


def _event(tally: Tally) -> dict[str, float]:
    """Return what progress is made of, as plain numbers: dask refuses NumPy's."""
    return {
        "n_ok": int(tally.n_ok),
        "n_empty": int(tally.n_empty),
        "n_failed": int(tally.n_failed),
        "media_s": float(tally.media_s),
    }


@dataclass
class DaskCrew:
    """Dask's workers, seen as an executor."""

    client: Client
    executor: Executor
    say: Callable[[str], None]
    is_local: bool
    topic: str = field(default_factory=lambda: f"mer-store-{uuid.uuid4().hex}")
    """Of progress events: one scheduler may serve several runs."""
    _none_since_s: float | None = None
    _said: bool = False

    @property
    def make_part(self) -> Callable[[PartWork], PartReport]:
        """Return a function that dask can send by name."""
        return partial(make_part_on_worker, self.topic)

    def n_workers(self) -> int:
        """Return how many workers there are now: those that join later get work too.

        Raises
        ------
        MerStoreError
            The scheduler is gone, or local workers do not come back.
        """
        try:
            number = len(self.client.nthreads())
        except (OSError, TimeoutError, RuntimeError) as error:
            raise self._scheduler_gone() from error
        if number:
            self._none_since_s, self._said = None, False
        else:
            self._notice_absence()
        return number

    def _notice_absence(self) -> None:
        now_s = time.monotonic()
        self._none_since_s = self._none_since_s or now_s
        waited_s = now_s - self._none_since_s
        if self.is_local and waited_s > COME_BACK_S:
            raise MerStoreError(
                f"no worker process has come up for {COME_BACK_S:.0f} s. What was committed is in the store; "
                "look at the memory of this machine, or run without --workers"
            )
        if waited_s > SAY_AFTER_S and not self._said:
            self._said = True
            address = self.client.scheduler.address
            how = "" if self.is_local else f"; start one with `dask worker {address} --nthreads 1`"
            self.say(f"waiting for a worker at {address}{how}")

    def lost(self, error: BaseException) -> int:
        """Return how many workers died of a part. A scheduler that is gone cancels everything: an error."""
        if isinstance(error, CancelledError):
            raise self._scheduler_gone() from error
        if isinstance(error, KilledWorker):
            return int(error.allowed_failures) + 1
        if not isinstance(error, MerStoreError):
            raise MerStoreError(
                f"a worker cannot do this work: {type(error).__name__}: {error}; workers need the same "
                "mer-store, the same store and the same media paths as this machine"
            ) from error
        return 0

    @staticmethod
    def _scheduler_gone() -> MerStoreError:
        return MerStoreError(
            "the dask scheduler is gone and its work was cancelled. What was committed is in the store: "
            "run the same command again to go on"
        )


class HurriedNanny(Nanny):  # type: ignore[misc]
    """A nanny that does not wait for libraries to tidy up."""

    async def close(self, timeout: float = LEAVE_S, reason: str = "nanny-close") -> Any:  # noqa: ARG002
        """Close the worker, by force after `LEAVE_S`."""
        with suppress(TimeoutError):
            return await super().close(timeout=LEAVE_S, reason=reason)


@contextmanager
def dask_crew(
    report: Report,
    say: Callable[[str], None],
    n_workers: int | None,
    scheduler: str | None,
    device: str = "auto",
) -> Iterator[DaskCrew]:
    """Start `n_workers` local processes, or connect to a running `scheduler`.

    Raises
    ------
    UsageError
        No scheduler answers at that address.
    """

    def listen(event: tuple[float, dict[str, Any]]) -> None:
        report(Tally(**{name: event[1][name] for name in _event(Tally())}))

    for name in QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with (
        dask.config.set(SETTINGS),
        _connected(scheduler) if scheduler else _started(n_workers or 1, device) as client,
    ):
        executor = client.get_executor(pure=False, retries=0)
        crew = DaskCrew(client, executor, say, is_local=not scheduler)
        client.subscribe_topic(crew.topic, listen)
        try:
            yield crew
        finally:
            with suppress(OSError, TimeoutError, RuntimeError):  # where the scheduler is gone
                executor.shutdown(wait=False)
                client.unsubscribe_topic(crew.topic)


@contextmanager
def _connected(scheduler: str) -> Iterator[Client]:
    try:
        _knock(scheduler)
        client = _within(
            2 * CONNECT_S, partial(Client, scheduler, timeout=CONNECT_S, set_as_default=False)
        )
    except (OSError, TimeoutError, ValueError) as error:
        raise UsageError(
            f"--scheduler {scheduler}: no dask scheduler answers there "
            f"({str(error) or 'something else does'}); start one with `dask scheduler`"
        ) from error
    with client:
        yield client


def _knock(address: str) -> None:
    """Fail at once where the address is none or nobody listens: dask would go on trying."""
    kind, place = parse_address(address)
    get_backend(kind)
    if kind in ("tcp", "tls"):
        with socket.create_connection(parse_host_port(place, DEFAULT_PORT), CONNECT_S):
            pass


def _within(limit_s: float, make: Callable[[], Client]) -> Client:
    """Call `make`, for no longer than `limit_s`: at a port that speaks no dask it would hang for ever."""
    made: Future[Client] = Future()

    def call() -> None:
        try:
            made.set_result(make())
        except BaseException as error:  # noqa: BLE001 - raised again below
            made.set_exception(error)

    Thread(target=call, daemon=True).start()
    return made.result(limit_s)


@contextmanager
def _started(n_workers: int, device: str) -> Iterator[Client]:
    resource_tracker.ensure_running()  # started later, it would let signals through again
    with shielded():
        runner = LoopRunner()
        runner.start()
    options = {
        "host": "127.0.0.1",
        "nthreads": 1,
        "memory_limit": None,
        "dashboard": False,
        "silence_logs": logging.CRITICAL,
    }
    environments = worker_environments(n_workers, gpu_names(device))
    try:
        with (
            SpecCluster(
                scheduler={
                    "cls": Scheduler,
                    "options": {"host": "127.0.0.1", "port": 0, "dashboard": False},
                },
                workers={
                    number: {"cls": HurriedNanny, "options": {**options, "env": environment}}
                    for number, environment in enumerate(environments)
                },
                loop=runner.loop,
                silence_logs=logging.CRITICAL,
            ) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield client
    finally:
        runner.stop()


def worker_environments(n_workers: int, gpus: list[str]) -> list[dict[str, str]]:
    """Return each local worker's variables: its share of the cores, and one of `gpus` where there are any."""
    share = str(max(1, n_cpus() // n_workers))
    threads = {name: os.environ.get(name, share) for name in THREAD_VARIABLES}
    return [
        threads | ({"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {})
        for number in range(n_workers)
    ]
