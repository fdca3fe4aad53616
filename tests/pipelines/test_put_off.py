"""Clips that no model takes, and media that are not here: what is blamed, and what is not."""

import pytest

from mer_store.errors import MerStoreError


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
    bench.add(a="speech", b="more speech")
    extraction = bench.prepare()
    for path in bench.folder.glob("*.txt"):
        path.unlink()
    with pytest.raises(MerStoreError, match="not here, nor are the other clips"):
        extraction.run()
    assert bench.prepare().plan.n_to_do == 2


def test_some_missing_media_are_their_clips_failures(bench):
    bench.add(a="speech", b="more speech")
    extraction = bench.prepare()
    (bench.folder / "a.txt").unlink()
    assert extraction.run().tally.n_failed == 1
    assert bench.reasons()["a"] == ("failed", "no such file")
