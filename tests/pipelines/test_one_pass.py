"""Several modalities in one pass: the same rows as one by one, media read once, failures kept apart."""

import json

import numpy as np
import pytest
from fake_extractor import FakeExtractor

from extractors import table
from extractors.contract import ClipFailed, ExtractorRequest
from extractors.media import blob
from pipelines import resident
from pipelines.cluster.task import as_event, from_event
from pipelines.extract import Stream

TEXTS = {"a": "one two", "b": "three", "c": "four five six", "d": "seven"}


class Second(FakeExtractor):
    """Another modality of the same files, whose model cannot take a word."""

    bad = ""

    def load(self, blob):
        loaded = super().load(blob)
        if self.bad and self.bad in blob.clip_id:
            raise ClipFailed("not for this modality")
        return loaded


@pytest.fixture
def both(bench, monkeypatch):
    """Return a bench with two modalities."""
    monkeypatch.setitem(table.EXTRACTORS, "visual", f"{__name__}:Second")
    resident.let_go()
    bench.add(**TEXTS)
    return bench


def one_pass(bench, **settings):
    return bench.prepare(others=(Stream(ExtractorRequest("visual")),), **settings)


def rows(bench, modality):
    features = bench.store.features(modality)
    ids = sorted(features.clip_ids)
    return ids, features.read([3, 4], ids)


def test_rows_are_those_of_separate_runs(both, tmp_path):
    report = one_pass(both, part_clips=3).run()
    assert (report.tally.n_ok, len(report.part_ids)) == (4, 4)
    together = {modality: rows(both, modality) for modality in ("audio", "visual")}
    alone = type(both)(tmp_path / "alone")
    alone.add(**TEXTS)
    alone.extract()
    alone.extract(request=ExtractorRequest("visual"))
    for modality, (ids, values) in together.items():
        assert ids == sorted(TEXTS)
        expected = rows(alone, modality)
        assert expected[0] == ids
        np.testing.assert_array_equal(values, expected[1])


def test_only_what_is_missing_is_made(both):
    both.extract()
    plan = one_pass(both).plan
    assert [[s.request.modality for s in part.streams] for part in plan.parts] == [["visual"]]
    one_pass(both).run()
    assert one_pass(both).plan.n_to_do == 0


def test_one_modalitys_failure_is_not_the_others(both, monkeypatch):
    monkeypatch.setattr(Second, "bad", "b")
    report = one_pass(both).run()
    assert (report.tally.n_ok, report.tally.n_failed) == (3, 1)
    assert list(report.reasons) == ["visual: not for this modality"]
    assert sorted(both.store.features("audio").clip_ids) == sorted(TEXTS)
    assert sorted(both.store.features("visual").clip_ids) == ["a", "c", "d"]


def test_time_is_split_by_modality_where_there_are_several(both):
    tally = one_pass(both, part_clips=3).run().tally
    for stage, seconds in (("computing", tally.computing_s), ("writing", tally.writing_s)):
        split = {name: tally.by_modality[f"{stage} {name}"] for name in ("audio", "visual")}
        assert all(split.values())
        assert sum(split.values()) == pytest.approx(seconds)
        assert set(tally.parts_of(stage)) == {"audio", "visual"}
    assert set(tally.parts_of("decoding")) == {"audio", "visual", ""}
    event = as_event(tally, "tcp://10.0.0.1:1234", "node1")
    assert from_event(json.loads(json.dumps(event))) == tally, "workers send it as plain numbers"
    assert both.extract(layers="1").tally.by_modality == {}


def test_a_file_is_read_once_for_all_modalities(tmp_path, monkeypatch):
    place, reads, real = tmp_path / "a.txt", [], blob._read_file
    place.write_text("bytes")

    def read(clip_id, path):
        reads.append(path)
        return real(clip_id, path)

    monkeypatch.setattr(blob, "_read_file", read)
    with blob.reading_once():
        first = blob.read_blob("a", place)
        assert blob.read_blob("a", place) is first
        for _ in range(2):
            with pytest.raises(ClipFailed, match="no such file"):
                blob.read_blob("b", tmp_path / "b.txt")
    assert reads == [place, tmp_path / "b.txt"]
    assert blob.read_blob("a", place) is not first
