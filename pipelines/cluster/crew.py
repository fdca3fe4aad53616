"""Dask's workers, seen as a crew: parts go out, bytes stay where they are made."""

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from distributed import Client, KilledWorker

from mer_store import __version__
from mer_store.errors import MerStoreError, UsageError
from pipelines.cluster.executor import DaskExecutor
from pipelines.cluster.leaving import LEAVING
from pipelines.cluster.local import local_gpus, started
from pipelines.cluster.scheduler import connected, serves_pages
from pipelines.cluster.settings import quiet_dask
from pipelines.cluster.task import from_event, make_part_on_worker
from pipelines.unfit import UnfitError
from pipelines.work import PartReport, PartWork, Tally
from pipelines.workers import Workers

#: Local workers come back within seconds, or never.
COME_BACK_S = 180.0
SAY_AFTER_S = 10.0
#: Under which a scheduler keeps the version of the run that it serves, for workers that want to join.
VERSION_KEY = "mer-store-version"
GONE = (OSError, TimeoutError, RuntimeError)

Report = Callable[[Tally, str], None]
"""Takes what was dealt with, and the name of the worker that did."""


@dataclass
class DaskCrew:
    """Dask's workers, seen as an executor."""

    client: Client
    executor: Executor
    say: Callable[[str], None]
    workers: Workers
    topic: str = field(default_factory=lambda: f"mer-store-{uuid.uuid4().hex}")
    """Of progress events: one scheduler may serve several runs."""
    proven: set[str] = field(default_factory=set)
    """Addresses of workers whose model has answered."""
    leaving: set[str] = field(default_factory=set)
    """Addresses of workers that finish what they have in hand and take no more."""
    dismissed: dict[str, UnfitError] = field(default_factory=dict)
    """Addresses of workers that cannot do the work, with the reason."""
    _none_since_s: float | None = None
    _said: bool = False

    @property
    def make_part(self) -> Callable[[PartWork], PartReport]:
        """Return a function that dask can send by name."""
        return partial(make_part_on_worker, self.topic, __version__)

    def n_workers(self) -> int:
        """Return how many workers there are now: those that join later get work too.

        Raises
        ------
        MerStoreError
            The scheduler is gone, local workers do not come back, or none of the workers can do the work.
        """
        try:
            present = set(self.client.nthreads())
        except GONE as error:
            raise self._scheduler_gone() from error
        number = len(present - self.leaving - self.dismissed.keys())
        if number:
            self._none_since_s, self._said = None, False
        else:
            self._notice_absence()
        return number

    def _notice_absence(self) -> None:
        if self.dismissed and len(self.dismissed) >= (self.workers.expected or 0):
            error = next(reversed(self.dismissed.values()))
            raise UnfitError(f"no worker can do this work; the last said: {error}", error.exit_code)
        now_s = time.monotonic()
        self._none_since_s = self._none_since_s or now_s
        waited_s = now_s - self._none_since_s
        if self.workers.are_local and waited_s > COME_BACK_S:
            raise MerStoreError(
                f"no worker process has come up for {COME_BACK_S:.0f} s. What was committed is in the store; "
                "look at the memory of this machine, or run without --workers"
            )
        if waited_s > SAY_AFTER_S and not self._said:
            self._said = True
            address = self.client.scheduler.address
            how = f"; start one with `mer-store worker {address}`" if self.workers.scheduler else ""
            how = "; `squeue --me` shows the jobs" if self.workers.slurm else how
            self.say(f"waiting for a worker at {address}{how}")

    def dismiss(self, error: UnfitError) -> bool:
        """Take out a worker that cannot do the work; False where it has done some: then it is the work.

        Its process ends: its nanny does not start another.
        """
        if not error.worker or error.worker in self.proven:
            return False
        self.dismissed[error.worker] = error
        self.say(f"taken out: {error}")
        with suppress(*GONE):  # noticed when the workers are counted
            self.client.retire_workers(workers=[error.worker], close_workers=True)
        return True

    def listen(self, report: Report) -> None:
        """Hand progress on to `report`, and note who leaves."""

        def progress(event: tuple[float, dict[str, Any]]) -> None:
            tally = from_event(event[1])
            if tally.n_ok:
                self.proven.add(event[1]["worker"])
            report(tally, event[1]["name"])

        self.client.subscribe_topic(self.topic, progress)
        self.client.subscribe_topic(LEAVING, lambda event: self.leaving.add(event[1]["worker"]))

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


@contextmanager
def dask_crew(report: Report, say: Callable[[str], None], workers: Workers) -> Iterator[DaskCrew]:
    """Start the workers, or connect to those of a running scheduler.

    Raises
    ------
    UsageError
        No scheduler answers at that address; no jobs can be submitted.
    """
    with quiet_dask(), _client(workers, say) as client:
        executor = DaskExecutor(client)
        crew = DaskCrew(client, executor, say, workers)
        crew.listen(report)
        client.set_metadata(VERSION_KEY, __version__)
        if workers.dashboard or (workers.scheduler and serves_pages(client.dashboard_link)):
            say(f"dask's dashboard: {client.dashboard_link}")
        try:
            yield crew
        finally:
            with suppress(*GONE):
                executor.shutdown(wait=False)
                client.set_metadata(VERSION_KEY, None)
                client.unsubscribe_topic(crew.topic)
                client.unsubscribe_topic(LEAVING)


@contextmanager
def _client(workers: Workers, say: Callable[[str], None]) -> Iterator[Client]:
    if workers.scheduler:
        with connected(workers.scheduler) as client:
            yield client
    elif workers.slurm:
        try:
            from pipelines.cluster.slurm_jobs import submitted
        except ModuleNotFoundError as error:
            raise UsageError(
                f"--cluster slurm: {error.name} is not installed: pip install 'mer-store[slurm]'"
            ) from error
        with submitted(
            workers.slurm, workers.number or 1, say, dashboard=workers.dashboard
        ) as client:
            yield client
    else:
        gpus, remark = local_gpus(workers.number or 1, workers.device)
        if remark:
            say(remark)
        with started(workers.number or 1, gpus, dashboard=workers.dashboard) as client:
            yield client
