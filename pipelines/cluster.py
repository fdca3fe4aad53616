"""Workers in other processes and on other machines. The one file that imports dask."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import dask
from distributed import Client, KilledWorker, LocalCluster, get_worker

from mer_store.errors import MerStoreError, UsageError
from pipelines.part import Report, make_part
from pipelines.work import PartReport, PartWork, Tally

TOPIC = "mer-store-progress"
REPORT_EVERY_S = 0.5
CONNECT_S = 15

SETTINGS = {
    # One part is in flight per worker: a worker's death is its own part's, which is split and tried again.
    "distributed.scheduler.allowed-failures": 0,
    # A process's memory is mostly the model: dask's own limits would pause it for nothing.
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.target": False,
    "distributed.comm.timeouts.connect": f"{CONNECT_S}s",
}


def make_part_on_worker(work: PartWork) -> PartReport:
    """Make a part on a dask worker, reporting through the scheduler a few times a second."""
    worker = get_worker()
    pending = Tally()
    last_s = time.monotonic()

    def report(tally: Tally) -> None:
        nonlocal pending, last_s
        pending += tally
        if time.monotonic() - last_s >= REPORT_EVERY_S:
            send()

    def send() -> None:
        nonlocal pending, last_s
        worker.log_event(TOPIC, asdict(pending))
        pending, last_s = Tally(), time.monotonic()

    try:
        return make_part(work, report)
    finally:
        send()


@dataclass
class DaskCrew:
    """Dask's workers, seen as an executor."""

    client: Client
    executor: Executor

    @property
    def make_part(self) -> Callable[[PartWork], PartReport]:
        """Return a function that dask can send by name."""
        return make_part_on_worker

    def n_workers(self) -> int:
        """Return how many workers there are now: those that join later get work too."""
        try:
            return max(1, len(self.client.nthreads()))
        except (OSError, TimeoutError) as error:
            raise MerStoreError(f"the dask scheduler does not answer: {error}") from error

    def lost(self, error: BaseException) -> bool:
        """Tell whether a worker died. A scheduler that is gone cancels everything: that is an error."""
        if isinstance(error, CancelledError):
            raise MerStoreError(
                "the dask scheduler is gone and its work was cancelled. What was committed is in the store: "
                "run the same command again to go on"
            ) from error
        return isinstance(error, KilledWorker)


@contextmanager
def dask_crew(report: Report, n_workers: int | None, scheduler: str | None) -> Iterator[DaskCrew]:
    """Start `n_workers` local processes, or connect to a running `scheduler`."""

    def listen(event: tuple[float, dict[str, Any]]) -> None:
        report(Tally(**event[1]))

    with dask.config.set(SETTINGS), _connect(n_workers, scheduler) as client:
        client.subscribe_topic(TOPIC, listen)
        executor = client.get_executor(pure=False, retries=0)
        try:
            yield DaskCrew(client, executor)
        finally:
            executor.shutdown(wait=False)
            client.unsubscribe_topic(TOPIC)


@contextmanager
def _connect(n_workers: int | None, scheduler: str | None) -> Iterator[Client]:
    if scheduler:
        try:
            client = Client(scheduler, timeout=CONNECT_S)
        except (OSError, TimeoutError, ValueError) as error:
            raise UsageError(
                f"--scheduler {scheduler}: no dask scheduler answers there ({error}); "
                "start one with `dask scheduler`"
            ) from error
        with client:
            yield client
        return
    with (
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,
            dashboard_address=None,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
