"""Scores: weighted F1, F1 by class, confusion."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.train.lanes import Lane
from pipelines.train.roster import Roster, Rows


@dataclass(frozen=True)
class Scores:
    """How well predicted classes fit labels."""

    weighted_f1: float
    """Mean of the classes' F1, each weighted by how many clips have that label."""
    f1_by_class: dict[str, float]
    confusion: list[list[int]]
    """[labels][predictions]"""
    n_clips: int

    def to_values(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dict(vars(self))


def score(label: Rows, predicted: Rows, classes: Sequence[str]) -> Scores:
    """Compare [n] labels with [n] predicted classes, by scikit-learn."""
    from sklearn.metrics import confusion_matrix, f1_score

    numbers = list(range(len(classes)))
    each = f1_score(label, predicted, labels=numbers, average=None, zero_division=0.0)
    return Scores(
        weighted_f1=float(f1_score(label, predicted, average="weighted", zero_division=0.0)),
        f1_by_class=dict(zip(classes, map(float, each), strict=True)),
        confusion=confusion_matrix(label, predicted, labels=numbers).tolist(),
        n_clips=len(label),
    )


def weighted_f1(label: Rows, predicted: NDArray[np.int64], n_classes: int) -> NDArray[np.float64]:
    """Return [...]: scikit-learn's weighted F1 of many models at once, for use in training loops.

    Parameters
    ----------
    label
        [n]
    predicted
        [..., n]: classes predicted by each model.
    """
    hit = predicted == label
    classes = np.arange(n_classes)
    is_label = label == classes[:, None]  # [C, n]
    true_positive = hit.astype(np.float64) @ is_label.T
    n_predicted = np.stack([(predicted == c).sum(axis=-1) for c in classes], axis=-1)
    n_label = is_label.sum(axis=1)
    f1 = 2 * true_positive / np.maximum(n_predicted + n_label, 1)
    scores: NDArray[np.float64] = f1 @ (n_label / max(len(label), 1))
    return scores


def choice_scores(
    roster: Roster, lanes: Sequence[Lane], predict: Callable[[Rows], NDArray[np.floating]]
) -> NDArray[np.float64]:
    """Return [S]: weighted F1 of each of the K * Q models on the clips that choose its epoch.

    Parameters
    ----------
    predict
        From clips [n] to the logits [S, n, C] of all models; called once, for the clips of all lanes.
    """
    wanted = np.unique(np.concatenate([lane.choose for lane in lanes]))
    logits = predict(wanted)
    q, scores = len(logits) // len(lanes), []
    for number, lane in enumerate(lanes):
        own = np.searchsorted(wanted, lane.choose)
        predicted = logits[number * q : (number + 1) * q, own].argmax(axis=-1)
        scores.append(weighted_f1(roster.label[lane.choose], predicted, len(roster.classes)))
    return np.concatenate(scores)


def summarise_scores(
    roster: Roster,
    lanes: Sequence[Lane],
    logits: NDArray[np.floating],
    settled: NDArray[np.floating],
) -> dict[str, Any]:
    """Return what a run's summary says of its scores.

    Parameters
    ----------
    logits
        [K, clips, C] of each lane.
    settled
        [clips, C]: see `lanes.settle`.

    Returns
    -------
    dict
        ``weighted_f1_mean`` is the mean over the repeats of the mean over the folds, ``weighted_f1_std`` its
        spread over the repeats, or over the folds where there is one repeat; `spread_over` says which.
    """
    label, classes = roster.label, roster.classes
    by_lane = [
        score(
            label[lane.validate], logits[number, lane.validate].argmax(axis=-1), classes
        ).weighted_f1
        for number, lane in enumerate(lanes)
    ]
    n_repeats = 1 + max(lane.repeat for lane in lanes)
    by_repeat = np.array(by_lane).reshape(n_repeats, -1).mean(axis=1)
    spread = by_repeat if n_repeats > 1 else np.array(by_lane)
    scored = np.unique(np.concatenate([lane.validate for lane in lanes]))
    summary: dict[str, Any] = {
        "weighted_f1_mean": float(by_repeat.mean()),
        "weighted_f1_std": float(spread.std(ddof=1)) if len(spread) > 1 else 0.0,
        "spread_over": "repeats" if n_repeats > 1 else "folds",
        "weighted_f1_by_lane": by_lane,
        "n_repeats": n_repeats,
        "n_folds": len(by_lane) // n_repeats,
        **score(label[scored], settled[scored].argmax(axis=-1), classes).to_values(),
    }
    tested = np.flatnonzero(roster.is_test & (label >= 0) & np.isfinite(settled).all(axis=-1))
    if len(tested):
        predicted = settled[tested].argmax(axis=-1)
        summary["test"] = score(label[tested], predicted, classes).to_values()
    return summary
