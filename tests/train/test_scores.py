"""Weighted F1 is scikit-learn's, also where many models are scored at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from mer_store.clips.clip_list import Clip
from pipelines.train.choices import ProtocolSettings
from pipelines.train.folds import assign_folds
from pipelines.train.lanes import make_lanes, settle
from pipelines.train.predictions import Predictions, from_logits
from pipelines.train.roster import make_roster
from pipelines.train.scores import score, summarise_scores, weighted_f1

CLASSES = ("neutral", "anger", "happiness", "sadness", "worry", "surprise")


@given(st.integers(1, 60), st.integers(1, 6), st.integers(0, 10**6))
def test_many_models_at_once_equal_scikit_learn(n, n_classes, seed):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, n_classes, n)
    predicted = rng.integers(0, n_classes, (2, 3, n))
    ours = weighted_f1(label, predicted, n_classes)
    for place in np.ndindex(2, 3):
        theirs = f1_score(label, predicted[place], average="weighted", zero_division=0.0)
        assert ours[place] == pytest.approx(theirs, abs=1e-12)


def test_scores_by_hand():
    scores = score(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), ("no", "yes"))
    assert scores.f1_by_class == pytest.approx({"no": 2 / 3, "yes": 0.8})
    assert scores.weighted_f1 == pytest.approx((2 / 3 + 0.8) / 2)
    assert scores.confusion == [[1, 1], [0, 2]]


@pytest.mark.parametrize(("repeats", "over"), [(1, "folds"), (3, "repeats")])
def test_the_summary_is_the_mean_over_repeats_of_the_mean_over_folds(repeats, over):
    clips = [Clip(f"c{n}", label=CLASSES[n % 6], split="labelled") for n in range(60)]
    clips += [
        Clip("t0", label="anger", split="test"),
        Clip("t1", label="worry", split="test"),
        Clip("u"),
    ]
    roster = make_roster(clips, CLASSES)
    settings = ProtocolSettings(repeats=repeats, n_folds=3)
    folds = assign_folds(roster, settings)
    lanes = make_lanes(roster, folds, settings, np.ones(63, bool))
    logits = np.random.default_rng(0).standard_normal((len(lanes), 63, 6))
    logits[:, np.arange(60), roster.label[:60]] += 1.0
    settled = settle(lanes, logits)
    settled[61] = np.nan  # a test clip without features
    summary = summarise_scores(roster, lanes, logits, settled)
    each = [
        f1_score(
            roster.label[lane.validate], logits[k, lane.validate].argmax(1), average="weighted"
        )
        for k, lane in enumerate(lanes)
    ]
    by_repeat = np.array(each).reshape(repeats, 3).mean(axis=1)
    assert summary["weighted_f1_mean"] == pytest.approx(by_repeat.mean())
    spread = by_repeat if repeats > 1 else np.array(each)
    assert summary["weighted_f1_std"] == pytest.approx(spread.std(ddof=1))
    assert (summary["spread_over"], summary["n_clips"]) == (over, 60)
    assert summary["test"]["n_clips"] == 1


def test_predictions_are_written_and_read(tmp_path):
    logits = np.array([[2.0, 0.0], [np.nan, np.nan], [-1000.0, 1000.0]])
    predictions = from_logits(["a", "b", "c"], ("no", "yes"), logits)
    assert predictions.clip_ids == ("a", "c")
    assert predictions.labels == ["no", "yes"]
    assert predictions.probability.sum(axis=1) == pytest.approx([1, 1])
    predictions.write(tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_text().splitlines() == [
        "clip_id,label,no,yes",
        "a,no,0.880797,0.119203",
        "c,yes,0.000000,1.000000",
    ]
    read = Predictions.read(tmp_path / "p.csv")
    assert (read.clip_ids, read.classes) == (("a", "c"), ("no", "yes"))
    assert read.probability == pytest.approx(predictions.probability, abs=1e-6)
