"""The run: parts through an executor, one in flight per worker."""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from dataclasses import dataclass, field, replace
from typing import Protocol

from mer_store.errors import MerStoreError
from pipelines.interrupt import StopFile
from pipelines.progress import Progress
from pipelines.work import PartReport, PartWork, Tally

POLL_S = 0.2
#: Parts lost in a row, with none committed between, before a run gives up on its workers.
MAX_LOSSES = 30
#: Deaths after which a part is split, or its only clip is blamed: the first may be anybody's kill.
DEATHS_TO_BLAME = 2


class Crew(Protocol):
    """Workers: something that makes parts."""

    executor: Executor

    @property
    def make_part(self) -> Callable[[PartWork], PartReport]:
        """What is submitted to the executor."""

    def n_workers(self) -> int:
        """Return how many parts may be in flight now."""

    def lost(self, error: BaseException) -> bool:
        """Tell whether `error` means that a worker died, rather than that the work is impossible."""


@dataclass
class RunReport:
    """What a run did."""

    tally: Tally = field(default_factory=Tally)
    part_ids: list[str] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[str, str]] = field(default_factory=list)
    n_lost: int = 0
    """Parts whose worker died; each was made again."""
    stopped: bool = False
    elapsed_s: float = 0.0

    def add(self, part: PartReport) -> None:
        """Count a part that was committed."""
        self.tally += part.tally
        self.part_ids += part.part_ids
        self.reasons.update(part.reasons)
        self.examples += part.examples
        self.stopped |= part.stopped


def run_parts(
    parts: Iterable[PartWork], crew: Crew, progress: Progress, stop: StopFile
) -> RunReport:
    """Make `parts`, one in flight per worker, until done or asked to stop.

    A part whose worker dies is tried again, then split in two, so that the clip that kills its worker is
    found, recorded as failed, and blamed alone.

    Raises
    ------
    MerStoreError
        Work turned out to be impossible (a full disk, a model that does not load), or workers keep dying.
    """
    queue = deque(parts)
    flying: dict[Future[PartReport], PartWork] = {}
    report = RunReport()
    losses = 0
    try:
        while flying or (queue and not stop.asked):
            while queue and not stop.asked and len(flying) < crew.n_workers():
                work = queue.popleft()
                flying[crew.executor.submit(crew.make_part, work)] = work
            done, _ = wait(flying, timeout=POLL_S, return_when=FIRST_COMPLETED)
            for future in done:
                work = flying.pop(future)
                error = CancelledError() if future.cancelled() else future.exception()
                if error is None:
                    report.add(future.result())
                    losses = 0 if future.result().tally.n_ok else losses
                    continue
                if not crew.lost(error):
                    raise error
                report.n_lost += 1
                losses += 1
                if losses > MAX_LOSSES:
                    raise MerStoreError(
                        f"{losses} parts in a row lost their worker, the last with the clips "
                        f"{', '.join(source.clip_id for source in work.sources[:3])}…: {error!r}. "
                        f"What was committed is kept; look at the workers' memory and logs"
                    ) from error
                if len(work.sources) == 1 and not report.tally.n_ok:
                    queue.append(work)  # no worker has made anything yet: too early to blame a clip
                else:
                    queue.extendleft(reversed(split(work)))
    except BaseException:
        stop.ask()
        for future in flying:
            future.cancel()
        raise
    report.stopped |= bool(queue)
    report.elapsed_s = progress.elapsed_s
    return report


def split(work: PartWork) -> list[PartWork]:
    """Say what to do with a part whose worker died.

    Once: try it whole again. Twice: halve its clips. A single clip that has done so twice is rejected.
    """
    if work.n_deaths + 1 < DEATHS_TO_BLAME:
        return [replace(work, n_deaths=work.n_deaths + 1)]
    work = replace(work, n_deaths=0)
    if len(work.sources) > 1:
        middle = len(work.sources) // 2
        return [
            replace(work, sources=work.sources[:middle]),
            replace(work, sources=work.sources[middle:], rejected={}),
        ]
    reason = "its worker died on this clip twice (crashed decoder, out of memory, or killed)"
    killers = {source.clip_id: reason for source in work.sources}
    return [replace(work, sources=(), rejected={**work.rejected, **killers})]
