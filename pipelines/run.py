"""The run: parts through an executor, one in flight per worker."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from mer_store.errors import MerStoreError
from pipelines.in_hand import read_in_hand
from pipelines.interrupt import StopFile
from pipelines.progress import Progress
from pipelines.remainder import rest, split, without
from pipelines.unfit import UnansweredError, UnfitError
from pipelines.work import PartReport, PartWork, Tally

POLL_S = 0.2
#: Parts lost in a row, with none committed between, before a run gives up on its workers.
MAX_LOSSES = 30
#: Deaths at one clip, where nothing was ever made, after which a run is given up.
DEATHS_TO_DOUBT = 5


class Crew(Protocol):
    """Workers: something that makes parts."""

    executor: Executor

    @property
    def make_part(self) -> Callable[[PartWork], PartReport]:
        """What is submitted to the executor."""

    def n_workers(self) -> int:
        """Return how many parts may be in flight now."""

    def lost(self, error: BaseException) -> int:
        """Return how many workers died of a part; 0 where `error` means that its work is impossible."""

    def dismiss(self, error: UnfitError) -> bool:
        """Take out the worker that `error` came from; False where the work is not to be had from others."""


@dataclass
class RunReport:
    """What a run did."""

    tally: Tally = field(default_factory=Tally)
    part_ids: list[str] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[str, str]] = field(default_factory=list)
    n_lost: int = 0
    """Parts whose worker died; each was made again."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Modalities whose model did not load, with the reason: nothing was recorded of them."""
    n_left_out: Counter[str] = field(default_factory=Counter)
    """Clips that lack them, by modality."""
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
    found, recorded as failed, and blamed alone. Where one modality's model does not load, the others go on.

    Raises
    ------
    MerStoreError
        Work turned out to be impossible (a full disk, the only model does not load), or workers keep dying.
    """
    run = _Run(crew, stop, deque(parts), progress.say)
    try:
        while run.goes_on():
            run.submit()
            progress.tick()
            for future in run.wait():
                run.collect(future)
    except BaseException:
        stop.ask()
        for future in run.flying:
            future.cancel()
        raise
    report = run.report
    report.stopped |= bool(run.queue or run.flying)
    progress.settle(report.tally)
    report.elapsed_s = progress.elapsed_s
    return report


@dataclass
class _Run:
    """Parts that wait and parts in flight."""

    crew: Crew
    stop: StopFile
    queue: deque[PartWork]
    say: Callable[[str], None]
    flying: dict[Future[PartReport], PartWork] = field(default_factory=dict)
    report: RunReport = field(default_factory=RunReport)
    losses: int = 0
    """Parts lost since one was committed."""
    room: int = 0
    """Workers there are."""
    sent_away: set[str] = field(default_factory=set)
    """Addresses of workers that could not do the work."""
    _n_submitted: int = 0

    def goes_on(self) -> bool:
        """Tell whether there is anything to wait for."""
        self.room = self.crew.n_workers()
        if self.stop.asked:
            return bool(self.flying and self.room)  # without workers, what is in flight never lands
        return bool(self.flying or self.queue)

    def submit(self) -> None:
        """Give every idle worker a part."""
        while self.queue and not self.stop.asked and len(self.flying) < self.room:
            work = self._wanted(self.queue.popleft())
            if not work.streams:
                continue
            self._n_submitted += 1
            note_path = self.stop.path.absolute().with_name(
                f"{self.stop.path.name}-{self._n_submitted}"
            )
            work = replace(work, note_path=str(note_path))
            self.flying[self.crew.executor.submit(self.crew.make_part, work)] = work

    def _wanted(self, work: PartWork) -> PartWork:
        """Return `work` without the modalities that are left out, and count its clips for them."""
        less = without(work, self.report.left_out)
        for stream in work.streams:
            if stream not in less.streams:
                self.report.n_left_out[stream.request.stream_name] += work.n_clips
        return less

    def wait(self) -> set[Future[PartReport]]:
        """Wait a moment for parts to be done."""
        if not self.flying:
            time.sleep(POLL_S)
        return wait(self.flying, timeout=POLL_S, return_when=FIRST_COMPLETED).done

    def collect(self, future: Future[PartReport]) -> None:
        """Count what was committed; deal with a worker's death."""
        work = self.flying.pop(future)
        in_hand = read_in_hand(Path(work.note_path))
        if in_hand is not None:
            Path(work.note_path).unlink(missing_ok=True)
        error = CancelledError() if future.cancelled() else future.exception()
        if error is None:
            self._land(work, future.result())
            return
        if isinstance(error, UnansweredError):
            self._put_off(work, error)
            return
        if isinstance(error, UnfitError):
            self._do_otherwise(work, error)
            return
        n_deaths = self.crew.lost(error)
        if not n_deaths:
            raise error
        self._lose(work, n_deaths, in_hand, error)

    def _do_otherwise(self, work: PartWork, error: UnfitError) -> None:
        """Leave a part to another worker; where there is none, leave the modality out that does not load."""
        optional = bool(error.stream) and len(work.requests) > 1
        others = bool(error.worker) and self.room > 1
        if error.worker in self.sent_away:
            pass  # it had another part in hand
        elif (others or not optional) and self.crew.dismiss(error):
            self.sent_away.add(error.worker)
            self.room -= 1
        elif not optional:
            raise error
        elif error.stream not in self.report.left_out:
            self.report.left_out[error.stream] = str(error)
            self.say(f"{error.stream}: its model does not load; going on without it")
        self.queue.appendleft(work)

    def _put_off(self, work: PartWork, error: UnansweredError) -> None:
        """Put a part last whose clips all broke the model: once it has answered others, they are to blame."""
        n_ok = self.report.tally.n_ok
        if not work.put_off and (self.queue or self.flying or n_ok):
            self.queue.append(replace(work, put_off=True))
            if n_ok and error.worker:  # where others have answers, the worker is suspect, too
                self.crew.dismiss(error)
        elif self.crew.dismiss(error):
            self.queue.append(work)
        else:
            raise error

    def _land(self, work: PartWork, part: PartReport) -> None:
        """Count a part. What a worker left that went away, not asked by this run, is for the others."""
        if part.left and not self.stop.asked:
            self.queue.extendleft(rest(work, part.left))
            part = replace(part, stopped=False)
        self.report.add(part)
        self.losses = 0 if part.tally.n_ok else self.losses

    def _lose(
        self, work: PartWork, n_deaths: int, in_hand: frozenset[str] | None, error: BaseException
    ) -> None:
        self.report.n_lost += 1
        self.losses += 1
        if self.losses > MAX_LOSSES:
            raise MerStoreError(
                f"{self.losses} parts in a row lost their worker, the last with the clips "
                f"{', '.join(source.clip_id for source in work.sources[:3])}…: {error!r}. "
                f"What was committed is kept; look at the workers' memory and logs"
            ) from error
        if len(work.sources) == 1 and not self.report.tally.n_ok:
            self._doubt(work, n_deaths)
        else:
            self.queue.extendleft(reversed(split(work, n_deaths, in_hand)))

    def _doubt(self, work: PartWork, n_deaths: int) -> None:
        """Put a lone clip last: while no worker has made anything, it may be the workers' own fault."""
        work = replace(work, n_deaths=work.n_deaths + n_deaths)
        if work.n_deaths >= DEATHS_TO_DOUBT and not self.queue and not self.flying:
            raise MerStoreError(
                f"{work.n_deaths} workers died at the clip {work.sources[0].clip_id}, and none has made "
                "anything else in this run: the clip kills them, or they lack memory for the model. "
                "Nothing was recorded. Add a clip that is sure to work to the list, or try without --workers"
            )
        self.queue.append(work)
