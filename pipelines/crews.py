"""Crews: this process alone, or dask's workers."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from mer_store.errors import MerStoreError
from pipelines.interrupt import shield
from pipelines.part import Report, make_part
from pipelines.progress import Progress
from pipelines.run import Crew
from pipelines.unfit import UnfitError
from pipelines.work import PartReport, PartWork
from pipelines.workers import Workers

#: Parts in hand at once: one computes, and of two others one is likely ready to when it pauses.
N_IN_HAND = 3


@dataclass
class LocalCrew:
    """Worker threads in this process: one part computes while the others are read, written or committed."""

    executor: Executor
    report: Report

    @property
    def make_part(self) -> Callable[[PartWork], PartReport]:
        """The work itself, reporting as it goes."""
        return partial(make_part, report=self.report)

    def n_workers(self) -> int:
        """Return how many parts may be in hand: they take turns at the device (`Turns`)."""
        return N_IN_HAND

    def lost(self, error: BaseException) -> int:  # noqa: ARG002
        """Return 0: a worker that dies here takes the run along."""
        return 0

    def dismiss(self, error: UnfitError) -> bool:
        """Raise what was the matter: there are no others."""
        cause = error.__cause__
        raise cause if isinstance(cause, MerStoreError) else error


@contextmanager
def gather_crew(progress: Progress, workers: Workers) -> Iterator[Crew]:
    """Yield this process's crew, or dask's where there are workers elsewhere."""
    if not workers.are_here:
        from pipelines.cluster.crew import dask_crew

        with dask_crew(progress.add, progress.say, workers) as crew:
            yield crew
        return
    pool = ThreadPoolExecutor(N_IN_HAND, thread_name_prefix="extract", initializer=shield)
    try:
        yield LocalCrew(pool, progress.add)
    except Exception:
        # The other part was asked to stop, too: it commits what it has.
        pool.shutdown(cancel_futures=True)
        raise
    finally:
        # No waiting: the run is through, or somebody insisted on its end.
        pool.shutdown(wait=False, cancel_futures=True)
