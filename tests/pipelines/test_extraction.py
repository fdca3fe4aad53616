"""The whole extraction, with a fake extractor whose every row is known."""

import os

import numpy as np
import pytest
from fake_extractor import FakeExtractor, fake_rows

from extractors.contract import ExtractorRequest
from mer_store.errors import MerStoreError, UsageError
from pipelines.estimate import estimate_bytes

LAYERS = (3, 4)


def texts(n: int) -> dict[str, str]:
    return {f"clip{i:03}": "speech " + "x" * (i % 17) for i in range(n)}


def assert_rows(bench, clip_ids, layers=LAYERS):
    """Every stored row is the one the fake extractor gives for these bytes, rounded to float16."""
    clip_ids = list(clip_ids)
    pooled = bench.features().read(layers=layers, clip_ids=clip_ids)
    for row, clip_id in enumerate(clip_ids):
        for column, layer in enumerate(layers):
            expected = fake_rows(bench.texts[clip_id].encode(), layer).mean(axis=0)
            np.testing.assert_array_equal(pooled[row, column], expected.astype(np.float16), clip_id)


def test_every_clip_is_stored_with_its_own_rows(bench):
    bench.add(**texts(40))
    report = bench.extract(part_clips=16)
    assert report.tally.n_ok == 40
    assert len(report.part_ids) == 3
    assert_rows(bench, bench.texts)


def test_frame_level_in_the_same_pass(bench):
    bench.add(**texts(9))
    bench.extract(layers="2", frame_layers="1,3")
    ragged = bench.features("frame").ragged(layers=[1, 3], clip_ids=list(bench.texts))
    for clip_id, rows in zip(bench.texts, ragged, strict=True):
        for column, layer in enumerate((1, 3)):
            expected = fake_rows(bench.texts[clip_id].encode(), layer).astype(np.float16)
            np.testing.assert_array_equal(rows[:, column], expected)
    assert sum(FakeExtractor.calls) == 9, "one forward serves both levels"
    assert_rows(bench, bench.texts, layers=(2,))


def test_bad_clips_get_a_reason_and_the_others_go_on(bench):
    bench.add(
        **texts(6), f="fail now", e="empty one", r="raise it", p="poison", n="nan", gone="soon"
    )
    (bench.folder / "gone.txt").unlink()
    bench.rows += ["twice,clip000.txt", "twice,clip001.txt", "out,../escape.txt"]
    report = bench.extract()
    assert (report.tally.n_ok, report.tally.n_empty, report.tally.n_failed) == (6, 1, 7)
    reasons = bench.reasons()
    assert reasons["f"] == ("failed", "made to fail")
    assert reasons["e"] == ("empty", "made to be empty")
    assert reasons["r"][0] == "failed"
    assert "ZeroDivisionError: a decoder's own error" in reasons["r"][1]
    assert "RuntimeError: the model cannot take this" in reasons["p"][1]
    assert "non-finite" in reasons["n"][1]
    assert reasons["gone"][0] == "failed"
    assert "duplicate id" in reasons["twice"][1]
    assert "outside" in reasons["out"][1]
    assert_rows(bench, texts(6))


def test_a_second_run_reads_no_media(bench, monkeypatch):
    bench.add(**texts(12), f="fail", e="empty")
    bench.extract()

    def no_reading(*args):
        raise AssertionError("a file that has not changed was read again")

    monkeypatch.setattr(FakeExtractor, "open", no_reading)
    plan = bench.prepare().plan
    assert plan.parts == ()
    assert (plan.n_stored, plan.n_failed_before, plan.n_empty_before) == (12, 1, 1)


def test_only_missing_layers_are_extracted(bench):
    bench.add(**texts(5))
    bench.extract(layers="3")
    plan = bench.prepare(layers="2-4").plan
    assert [
        level.layers for part in plan.parts for stream in part.streams for level in stream.levels
    ] == [(2, 4)]
    bench.extract(layers="2-4")
    assert_rows(bench, bench.texts, layers=(2, 3, 4))


def test_a_layer_that_always_fails_is_not_tried_for_ever(bench, monkeypatch):
    bench.add(**texts(3))
    bench.extract(layers="2")
    states = FakeExtractor._states

    def bad_layer_4(payload, want):
        found = states(payload, want)
        for rows in (found.utterance, found.frame):
            if 4 in rows:
                rows[4][:] = np.inf
        return found

    monkeypatch.setattr(FakeExtractor, "_states", staticmethod(bad_layer_4))
    assert bench.extract(layers="2,4").tally.n_failed == 3
    plan = bench.prepare(layers="2,4").plan
    assert (plan.n_to_do, plan.n_failed_before, plan.n_stored) == (0, 3, 0)
    assert bench.prepare(layers="2").plan.n_stored == 3, "the layer that is there stays"
    assert bench.prepare(layers="3").plan.n_to_do == 3, "another layer may do better"
    assert bench.prepare(layers="2,4", retry_failed=True).plan.n_to_do == 3


def test_refused_clips_are_recorded_once_and_counted(bench):
    bench.add(**texts(2))
    bench.rows.append("out,../escape.txt")
    bench.extract()
    plan = bench.prepare().plan
    assert (plan.parts, plan.n_failed_before, plan.n_clips) == ((), 1, 3)


def test_a_clip_whose_media_changed_is_extracted_again(bench):
    bench.add(**texts(6))
    bench.extract(layers="2-4")
    bench.write("clip001", "spoken anew")
    bench.write("clip002", bench.texts["clip002"].replace("s", "z"))  # same size
    os.utime(bench.folder / "clip003.txt")  # same bytes
    plan = bench.prepare(layers="3-4").plan
    assert plan.n_stale == 2
    assert [source.clip_id for part in plan.parts for source in part.sources] == [
        "clip001",
        "clip002",
    ]
    bench.extract(layers="3-4")
    assert_rows(bench, bench.texts)
    has = bench.features().ledger(["clip000", "clip001"]).has((2,))
    assert has.tolist() == [[True], [False]], "layers of the old media are not mixed with the new"


def test_touched_files_are_hashed_once(bench, monkeypatch):
    bench.add(**texts(3))
    bench.extract()
    os.utime(bench.folder / "clip001.txt")
    assert bench.prepare().plan.n_stale == 0
    monkeypatch.setattr(FakeExtractor, "open", lambda *args: pytest.fail("hashed again"))
    assert bench.prepare().plan.parts == ()


def test_failed_clips_are_tried_again_when_asked_or_changed(bench):
    bench.add(**texts(2), f="fail")
    bench.extract()
    assert bench.prepare().plan.n_to_do == 0
    assert bench.prepare(retry_failed=True).plan.n_to_do == 1
    bench.extract(retry_failed=True)
    assert bench.reasons()["f"] == ("failed", "made to fail")
    bench.write("f", "fine now")
    bench.extract()
    assert bench.reasons()["f"] == ("ok", None)
    assert_rows(bench, bench.texts)


def test_a_missing_file_that_appears_is_extracted(bench):
    bench.add(**texts(2), late="comes later")
    (bench.folder / "late.txt").unlink()
    bench.extract()
    assert bench.prepare().plan.n_to_do == 0
    bench.write("late", "here it is")
    bench.extract()
    assert_rows(bench, bench.texts)


@pytest.mark.parametrize("settings", [
    {"part_clips": 1}, {"part_clips": 7, "batch_limit": 1}, {"batch_limit": 10_000}, {"n_decoders": 5},
])  # fmt: skip
def test_rows_do_not_depend_on_how_the_work_was_cut(bench, settings):
    bench.add(**texts(20))
    bench.rows.reverse()
    bench.extract(**settings)
    assert_rows(bench, bench.texts)


def test_stopping_commits_what_is_done_and_the_next_run_goes_on(bench, monkeypatch):
    bench.add(**texts(30))
    extraction = bench.prepare(part_clips=10, batch_limit=20)
    original = FakeExtractor.__call__

    def call(self, batch, want):
        if len(self.calls) == 6:
            extraction.stop.ask()
        return original(self, batch, want)

    monkeypatch.setattr(FakeExtractor, "__call__", call)
    report = extraction.run()
    assert report.stopped
    assert 0 < report.tally.n_ok < 30
    done = set(bench.features().clip_ids)
    assert len(done) == report.tally.n_ok
    assert not extraction.stop.path.exists()
    second = bench.extract(part_clips=10)
    assert second.tally.n_ok == 30 - len(done), "nothing is done twice"
    assert_rows(bench, bench.texts)


def test_a_broken_model_blames_no_clip(bench):
    bench.add(a="poison a", b="poison b")
    with pytest.raises(MerStoreError, match="failed on every clip"):
        bench.extract()
    assert bench.prepare().plan.n_to_do == 2


def test_the_estimate_is_what_is_stored(bench):
    bench.add(**texts(8))
    extraction = bench.prepare(layers="1", frame_layers="2,3")
    n_rows = sum(len(text) for text in bench.texts.values())
    assert estimate_bytes(extraction) == 2 * 6 * (8 + 2 * n_rows)


def test_wrong_layers_are_refused_before_anything_is_done(bench):
    bench.add(**texts(1))
    with pytest.raises(UsageError, match="no layer 5; the model has 0-4"):
        bench.prepare(layers="3-5")


def test_unknown_modalities_are_refused(bench):
    bench.add(**texts(1))
    with pytest.raises(UsageError, match="expected one of audio, visual, text"):
        bench.prepare(request=ExtractorRequest("smell"))
