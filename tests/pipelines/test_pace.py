"""Paces, and the stage that holds a run up."""

import pytest

from pipelines.bottleneck import find_bottleneck
from pipelines.pace import WINDOW_S, Pace, Pacer
from pipelines.work import Tally


def test_a_pace_is_that_of_the_last_minute():
    pacer = Pacer(0.0)
    for now_s in range(1, 201):
        clips = 10 if now_s <= 100 else 2
        pacer.add(Tally(n_ok=clips, media_s=3.0 * clips), float(now_s))
    pace = pacer.pace(200.0)
    assert pace.clips_per_s == pytest.approx(2, rel=0.05)
    assert pace.media_per_s == pytest.approx(6, rel=0.05)
    assert pacer.total.n_ok == 1200


def test_who_falls_silent_slows_down_to_nothing():
    pacer = Pacer(0.0)
    pacer.add(Tally(n_ok=100, computing_s=10.0), 10.0)
    assert pacer.pace(10.0).clips_per_s == 10
    assert pacer.pace(40.0) == Pace(clips_per_s=2.5, computing=0.25)
    assert pacer.pace(10.0 + 3 * WINDOW_S) == Pace()


def test_time_without_work_is_in_no_share():
    pacer = Pacer(0.0)
    pacer.add(Tally(n_ok=1, waiting_s=1.0, computing_s=2.0, writing_s=1.0), 8.0)
    pace = pacer.pace(8.0)
    assert (pace.waiting, pace.computing, pace.writing) == (0.125, 0.25, 0.125)


def test_a_long_batch_that_has_just_been_reported_is_no_more_than_all_the_time():
    pacer = Pacer(100.0)
    pacer.add(Tally(n_ok=1, computing_s=30.0), 101.0)
    assert pacer.pace(101.0).computing == 1.0


@pytest.mark.parametrize(
    ("times_s", "stage", "advice"),
    [
        ((6.0, 3.0, 1.0), "reading and decoding", "more --decoders"),
        ((1.0, 6.0, 3.0), "the model", "a GPU"),
        ((3.0, 1.0, 6.0), "writing", "larger --part-clips"),
    ],
)
def test_the_bottleneck_is_the_stage_that_takes_most(times_s, stage, advice):
    waiting_s, computing_s, writing_s = times_s
    tally = Tally(1, waiting_s=waiting_s, computing_s=computing_s, writing_s=writing_s)
    found = find_bottleneck(tally)
    assert (found.stage, found.share) == (stage, 0.6)
    assert sum(found.shares.values()) == pytest.approx(1)
    assert found.text.startswith(f"bottleneck: {stage}, 60% of the workers' time (")
    assert advice in found.text


def test_nothing_stored_has_no_bottleneck():
    assert find_bottleneck(Tally(n_failed=3, waiting_s=1.0)) is None
    assert find_bottleneck(Tally(n_ok=3)) is None
