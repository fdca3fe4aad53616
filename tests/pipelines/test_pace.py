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


SECONDS = {
    "decoding": 1.0, "decoding visual": 6.0, "decoding audio": 3.0,
    "computing audio": 1.0, "computing visual": 3.0, "writing text": 2.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("times_s", "modality", "shares", "words"),
    [
        (
            (6.0, 3.0, 1.0),
            "visual",
            (0.36, 0.18, 0.06),
            "decoding visual 36%, decoding audio 18%, reading 6%",
        ),
        ((2.0, 4.0, 2.0), "visual", (0.375, 0.125), "computing visual 38%, computing audio 12%"),
        ((1.0, 1.0, 8.0), "text", (0.8,), "writing text 80%"),
    ],
)
def test_of_several_modalities_the_one_that_binds_is_named(times_s, modality, shares, words):
    times = dict(zip(("waiting_s", "computing_s", "writing_s"), times_s, strict=True))
    tally = Tally(n_ok=1, **times, by_modality=SECONDS)
    found = find_bottleneck(tally)
    assert found.modality == modality
    assert tuple(found.by_modality.values()) == pytest.approx(shares)
    assert f"of the workers' time: {words} (" in found.text
    pacer = Pacer(0.0)
    pacer.add(tally, 20.0)
    pace = pacer.pace(20.0)
    assert (pace.modality, pace.modality_share) == (
        modality,
        pytest.approx(shares[0] * sum(times_s) / 20),
    )


def test_where_reading_binds_no_modality_is_named():
    tally = Tally(n_ok=1, waiting_s=1.0, by_modality={"decoding": 5.0, "decoding audio": 1.0})
    found = find_bottleneck(tally)
    assert found.modality is None
    assert ": reading 83%, decoding audio 17% (" in found.text
    pacer = Pacer(0.0)
    pacer.add(tally, 10.0)
    assert pacer.pace(10.0).modality == ""


def test_one_modality_needs_no_name():
    found = find_bottleneck(Tally(n_ok=1, computing_s=1.0))
    assert (found.modality, found.by_modality) == (None, {})


def test_seconds_of_modalities_add_up_and_come_off_again():
    one, two = Tally(by_modality={"computing a": 1.0}), Tally(by_modality={"computing b": 2.0})
    assert (one + two).by_modality == {"computing a": 1.0, "computing b": 2.0}
    assert (one + two - one).parts_of("computing") == {"b": 1.0}


def test_nothing_stored_has_no_bottleneck():
    assert find_bottleneck(Tally(n_failed=3, waiting_s=1.0)) is None
    assert find_bottleneck(Tally(n_ok=3)) is None
