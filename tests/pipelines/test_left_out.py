"""A modality whose model does not load is left out: the others are made, no clip is blamed."""

import io
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from queue import SimpleQueue

import pytest
from three_streams import MODALITIES, assert_same, contents, planned, save_models, talking_clips

from extractors.contract import ExtractorRequest, Source
from mer_store.errors import MerStoreError
from mer_store.store.store import Store
from pipelines import resident
from pipelines.interrupt import StopFile
from pipelines.progress import Progress
from pipelines.run import run_parts
from pipelines.unfit import UnfitError
from pipelines.work import PartReport, PartWork, StreamWork, Tally

AUDIO, VISUAL = ExtractorRequest("audio"), ExtractorRequest("visual")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return talking_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture
def models(tmp_path):
    yield save_models(tmp_path / "models")
    resident.let_go()


def cut(model):
    """Truncate the weights of a model; return what mends them."""
    path = model / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 9 // 10])
    return lambda: path.write_bytes(whole)


@pytest.mark.parametrize("damaged", MODALITIES)
def test_truncated_weights_cost_one_modality(models, clips, tmp_path, damaged):
    mend = cut(models[damaged])
    store, others = tmp_path / "store", [name for name in MODALITIES if name != damaged]
    report = planned(store, clips, models, *MODALITIES, part_clips=2).run()
    assert list(report.left_out) == [damaged]
    assert "weights cannot be read" in report.left_out[damaged]
    assert report.n_left_out == {damaged: 4}
    assert (report.tally.n_ok, report.tally.n_failed, report.reasons) == (4, 0, {})
    assert {one.spec.modality for one in Store.open(store).feature_sets()} == set(others)

    mend()  # the same process goes on: it holds nothing of the damaged model
    again = planned(store, clips, models, *MODALITIES, part_clips=2)
    asked = [[one.request.modality for one in part.streams] for part in again.plan.parts]
    assert asked == [[damaged]] * 2
    assert again.run().left_out == {}
    planned(tmp_path / "whole", clips, models, *MODALITIES, part_clips=2).run()
    assert_same(contents(store), contents(tmp_path / "whole"))


def test_the_only_modality_ends_the_run(models, clips, tmp_path):
    cut(models["visual"])
    with pytest.raises(MerStoreError, match="weights cannot be read"):
        planned(tmp_path / "store", clips, models, "visual").run()
    assert Store.open(tmp_path / "store").feature_sets() == []


class Crew:
    """Workers on some of which the visual model does not load; one without a name is this process."""

    def __init__(self, names: list[str], unable: set[str]) -> None:
        self.executor = ThreadPoolExecutor(len(names))
        self.unable, self.n, self.dismissed = unable, len(names), []
        self.idle: SimpleQueue[str] = SimpleQueue()
        self.made: Counter[str] = Counter()
        for name in names:
            self.idle.put(name)

    def make_part(self, work: PartWork) -> PartReport:
        worker = self.idle.get()
        names = [stream.request.modality for stream in work.streams]
        if "visual" in names and worker in self.unable and work.sources:
            self.idle.put(worker)
            raise UnfitError("no memory", worker=worker, stream="visual")
        self.idle.put(worker)
        self.made.update(names)
        return PartReport(Tally(n_ok=work.n_clips), ("part",), {}, ())

    def n_workers(self) -> int:
        return self.n - len(self.dismissed)

    def dismiss(self, error: UnfitError) -> bool:
        assert error.worker, "there are no others"
        self.dismissed.append(error.worker)
        return True


def run(crew, tmp_path, parts):
    log = io.StringIO()
    with closing(Progress("both", 1, log)) as progress, crew.executor:
        report = run_parts(parts, crew, progress, StopFile(tmp_path))
    return report, log.getvalue().count("visual: its model does not load; going on without it")


def parts(number: int) -> list[PartWork]:
    both = (StreamWork(AUDIO, ()), StreamWork(VISUAL, ()))
    sources = (Source("a"), Source("b"))
    return [PartWork("store", both, sources, requests=(AUDIO, VISUAL)) for _ in range(number)]


def test_parts_that_lack_that_modality_alone_are_not_made_and_rejected_clips_are(tmp_path):
    [one] = parts(1)
    visual = replace(one, streams=one.streams[1:])
    rejected = replace(one, sources=(), rejected={"c": "a duplicate"})
    crew = Crew(["", ""], unable={""})
    report, n_said = run(crew, tmp_path, [visual, *parts(3), visual, rejected])
    assert crew.made == {"audio": 4, "visual": 1}
    assert report.left_out == {"visual": "no memory"}
    assert report.n_left_out == {"visual": 2 * 5}
    assert n_said == 1
    assert not report.stopped


def test_another_worker_does_what_one_cannot(tmp_path):
    """The one that cannot may have taken a second part by the time it is sent away."""
    crew = Crew(["a", "b"], unable={"a"})
    report, n_said = run(crew, tmp_path, parts(6))
    assert crew.made == {"audio": 6, "visual": 6}
    assert crew.dismissed == ["a"]
    assert (report.left_out, n_said) == ({}, 0)


def test_the_last_worker_goes_on_without(tmp_path):
    crew = Crew(["a", "b", "c"], unable={"a", "b", "c"})
    report, n_said = run(crew, tmp_path, parts(6))
    assert crew.made == {"audio": 6}
    assert len(set(crew.dismissed)) == len(crew.dismissed) == 2
    assert report.left_out == {"visual": "no memory"}
    assert n_said == 1
