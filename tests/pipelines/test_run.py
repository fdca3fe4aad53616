"""Running parts through workers that die."""

from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import pytest

from extractors.contract import ExtractorRequest, Source
from mer_store.errors import MerStoreError
from pipelines.interrupt import StopFile
from pipelines.progress import Progress
from pipelines.remainder import split
from pipelines.run import run_parts
from pipelines.unfit import UnfitError
from pipelines.work import PartReport, PartWork, StreamWork, Tally


class WorkerDiedError(Exception):
    pass


class MortalCrew:
    """Workers that die on poison clips, and now and then on any."""

    def __init__(self, poison=(), kills=(), n_workers=3):
        self.executor = ThreadPoolExecutor(n_workers)
        self.poison, self.kills, self._n = set(poison), set(kills), n_workers
        self.n_calls = 0
        self.done: list[str] = []
        self.blamed: dict[str, str] = {}

    def make_part(self, work: PartWork) -> PartReport:
        self.n_calls += 1
        ids = [source.clip_id for source in work.sources]
        if self.n_calls in self.kills or self.poison & set(ids):
            raise WorkerDiedError
        self.done += ids
        self.blamed |= work.rejected
        return PartReport(Tally(n_ok=len(ids), n_failed=len(work.rejected)), ("part",), {}, ())

    def n_workers(self):
        return self._n

    def lost(self, error):
        return isinstance(error, WorkerDiedError)


def works(n_parts: int, n_clips: int = 8) -> list[PartWork]:
    return [
        PartWork("store", (StreamWork(ExtractorRequest("audio"), ()),),
                 tuple(Source(f"{part}-{clip}") for clip in range(n_clips)))
        for part in range(n_parts)
    ]  # fmt: skip


def run(crew, parts, tmp_path):
    with closing(Progress("test", 1)) as progress:
        return run_parts(parts, crew, progress, StopFile(tmp_path))


def test_kills_of_innocent_workers_lose_nothing_and_blame_nobody(tmp_path):
    crew = MortalCrew(kills={1, 4, 5, 9})
    report = run(crew, works(10), tmp_path)
    assert sorted(crew.done) == sorted(f"{part}-{clip}" for part in range(10) for clip in range(8))
    assert crew.blamed == {}
    assert report.n_lost == 4
    assert report.tally.n_ok == 80


def test_a_poison_clip_is_found_and_blamed_alone(tmp_path):
    crew = MortalCrew(poison={"1-5", "3-0"})
    report = run(crew, works(4), tmp_path)
    assert set(crew.blamed) == {"1-5", "3-0"}
    assert all("worker died" in reason for reason in crew.blamed.values())
    assert len(crew.done) == len(set(crew.done)) == 30
    assert report.tally == Tally(n_ok=30, n_failed=2)


def test_of_a_clip_that_kills_in_one_modality_the_others_are_made(tmp_path):
    class Crashing(MortalCrew):
        def make_part(self, work):
            names = {stream.request.stream_name for stream in work.streams}
            if "visual" in names and "1-5" in {source.clip_id for source in work.sources}:
                raise WorkerDiedError
            made.extend((source.clip_id, name) for source in work.sources for name in names)
            blamed.extend((clip_id, name) for clip_id in work.rejected for name in names)
            return super().make_part(work)

    made, blamed = [], []
    streams = tuple(StreamWork(ExtractorRequest(name), ()) for name in ("audio", "visual", "text"))
    run(Crashing(), [replace(work, streams=streams) for work in works(3)], tmp_path)
    assert len(made) == len(set(made)) == 3 * 8 * 3 - 1
    assert blamed == [("1-5", "visual")]


def test_workers_that_always_die_end_the_run(tmp_path):
    everything = {f"{part}-{clip}" for part in range(40) for clip in range(8)}
    crew = MortalCrew(poison=everything)
    with pytest.raises(MerStoreError, match="in a row lost their worker"):
        run(crew, works(40), tmp_path)


def test_an_impossible_part_ends_the_run(tmp_path):
    crew = MortalCrew()
    crew.lost = lambda error: False
    crew.kills = {2}
    with pytest.raises(WorkerDiedError):
        run(crew, works(5), tmp_path)


def test_a_cancelled_future_is_a_loss_for_the_crew_to_judge(tmp_path):
    class Cancelling:
        @staticmethod
        def submit(function, work):
            future = Future()
            future.cancel()
            future.set_running_or_notify_cancel()
            return future

    crew = MortalCrew()
    crew.executor = Cancelling()
    with pytest.raises(CancelledError):
        run(crew, works(1), tmp_path)


class HeterogeneousCrew(MortalCrew):
    """Three workers; the part that each takes first tells whether it is one that can do the work."""

    def __init__(self, n_unfit: int):
        super().__init__()
        self.n_unfit = n_unfit
        self.dismissed: list[str] = []

    def make_part(self, work: PartWork) -> PartReport:
        self.n_calls += 1
        if self.n_calls <= self.n_unfit:
            raise UnfitError("no weights", worker=f"worker {self.n_calls}")
        ids = [source.clip_id for source in work.sources]
        self.done += ids
        return PartReport(Tally(n_ok=len(ids)), ("part",), {}, ())

    def dismiss(self, error: UnfitError) -> bool:
        if len(self.dismissed) == 2:
            return False
        self.dismissed.append(error.worker)
        return True


def test_what_one_worker_cannot_do_others_do(tmp_path):
    crew = HeterogeneousCrew(n_unfit=2)
    report = run(crew, works(5), tmp_path)
    assert sorted(crew.dismissed) == ["worker 1", "worker 2"]
    assert len(crew.done) == len(set(crew.done)) == 40
    assert (report.tally.n_ok, report.n_lost) == (40, 0)


def test_what_no_worker_can_do_ends_the_run(tmp_path):
    crew = HeterogeneousCrew(n_unfit=100)
    with pytest.raises(UnfitError, match="no weights"):
        run(crew, works(5), tmp_path)
    assert crew.done == []


def test_what_a_worker_leaves_that_goes_is_done_by_others(tmp_path):
    class LeavingCrew(MortalCrew):
        def make_part(self, work: PartWork) -> PartReport:
            self.n_calls += 1
            ids = [source.clip_id for source in work.sources]
            done, left = (ids[:3], ids[3:]) if self.n_calls == 2 else (ids, [])
            self.done += done
            self.blamed |= work.rejected
            tally = Tally(n_ok=len(done), n_failed=len(work.rejected))
            return PartReport(
                tally, ("part",), {}, (), bool(left), tuple((clip, (0,)) for clip in left)
            )

    parts = works(4)
    parts[1] = replace(parts[1], rejected={"bad": "why"})
    crew = LeavingCrew(n_workers=1)
    report = run(crew, parts, tmp_path)
    assert len(crew.done) == len(set(crew.done)) == 32
    assert report.tally == Tally(n_ok=32, n_failed=1), "the rejected one is counted once"
    assert not report.stopped
    assert len(report.part_ids) == 5


def test_splitting_keeps_every_clip_and_the_rejected_ones_once():
    [work] = works(1, n_clips=5)
    work = replace(work, rejected={"bad": "why"})
    [again] = split(work)
    assert again.sources == work.sources
    left, right = split(again)
    assert left.sources + right.sources == work.sources
    assert (dict(left.rejected), dict(right.rejected)) == ({"bad": "why"}, {})
