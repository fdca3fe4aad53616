"""Clips that no model takes, and media that are not here: what is blamed, and what is not."""

import pytest
from fake_extractor import FakeExtractor

from extractors import table
from extractors.contract import ClipEmpty, ExtractorRequest
from mer_store.errors import MerStoreError
from pipelines.extract import Stream


def test_a_part_of_bad_clips_alone_does_not_end_the_run(bench):
    bench.add(a="poison one", b="poison two", c="speech", d="more speech")
    report = bench.extract(part_clips=2)
    assert (report.tally.n_ok, report.tally.n_failed) == (2, 2)
    assert bench.reasons()["a"] == (
        "failed",
        "the model raised RuntimeError: the model cannot take this",
    )
    assert not report.stopped


def test_a_model_that_answers_nothing_ends_the_run_and_blames_nobody(bench):
    bench.add(a="poison one", b="poison two", c="poison three", d="poison four")
    with pytest.raises(MerStoreError, match="failed on every clip"):
        bench.extract(part_clips=2)
    assert not any(feature_set.part_ids() for feature_set in bench.store.feature_sets())


def test_media_that_vanished_since_the_plan_are_no_failures(bench):
    bench.add(a="speech", b="more speech", c="even more")
    extraction = bench.prepare()
    for path in bench.folder.glob("*.txt"):
        path.unlink()
    with pytest.raises(MerStoreError, match="not here, nor are the other clips"):
        extraction.run()
    assert bench.prepare().plan.n_to_do == 3


def test_some_missing_media_are_their_clips_failures(bench):
    bench.add(a="speech", b="more speech")
    extraction = bench.prepare()
    (bench.folder / "a.txt").unlink()
    assert extraction.run().tally.n_failed == 1
    assert bench.reasons()["a"] == ("failed", "no such file")


def test_a_model_that_breaks_on_the_way_blames_nobody(bench, monkeypatch):
    bench.add(**{f"c{number}": f"speech {number}" for number in range(12)})
    calls, real = [], FakeExtractor.__call__

    def breaks(self, batch, want):
        calls.append(len(batch))
        if len(calls) > 2:
            raise RuntimeError("the device fell off the bus")
        return real(self, batch, want)

    monkeypatch.setattr(FakeExtractor, "__call__", breaks)
    with pytest.raises(MerStoreError, match="fails on clips that it took before"):
        bench.extract(part_clips=3)
    assert {status for status, _ in bench.reasons().values()} <= {"ok"}


def test_a_clip_without_one_modality_is_stored(bench, monkeypatch):
    monkeypatch.setitem(table.EXTRACTORS, "text", "fake_extractor:FakeExtractor")
    monkeypatch.setattr(FakeExtractor, "load", _empty_as_text(FakeExtractor.load))
    bench.add(a="speech", b="more speech")
    report = bench.extract(others=(Stream(ExtractorRequest("text")),))
    assert (report.tally.n_ok, report.tally.n_empty, report.tally.n_failed) == (2, 0, 0)
    assert report.reasons == {"text: nothing said": 2}


def _empty_as_text(load):
    def of_modality(self, blob):
        if self.identity.modality == "text":
            raise ClipEmpty("nothing said")
        return load(self, blob)

    return of_modality
