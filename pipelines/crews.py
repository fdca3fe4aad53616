"""Crews: this process alone, or dask's workers."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from pipelines.part import Report, make_part
from pipelines.run import Crew
from pipelines.work import PartReport, PartWork


@dataclass
class LocalCrew:
    """One worker thread in this process: no start-up cost, live progress."""

    executor: Executor
    report: Report

    @property
    def make_part(self) -> Callable[[PartWork], PartReport]:
        """The work itself, reporting as it goes."""
        return partial(make_part, report=self.report)

    def n_workers(self) -> int:
        """One."""
        return 1

    def lost(self, error: BaseException) -> bool:  # noqa: ARG002
        """Return False: a worker that dies here takes the run along."""
        return False


@contextmanager
def gather_crew(
    report: Report, n_workers: int | None = None, scheduler: str | None = None
) -> Iterator[Crew]:
    """Yield this process's crew, or dask's where `n_workers` or a `scheduler` address is given."""
    if n_workers or scheduler:
        from pipelines.cluster import dask_crew

        with dask_crew(report, n_workers, scheduler) as crew:
            yield crew
        return
    pool = ThreadPoolExecutor(1, thread_name_prefix="extract")
    try:
        yield LocalCrew(pool, report)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
