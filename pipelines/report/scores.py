"""How scores are written: in percent, with the spread, and which epoch they are of."""

from collections.abc import Mapping
from typing import Any

SELECTIONS = {
    "last": "the last one; nothing was chosen.",
    "inner": "the best on a part of the training folds; the scored fold was not looked at.",
    "fold": "the best on the scored fold itself, as the official baseline does: optimistic.",
}


def percent(value: float) -> str:
    """Write a share as the field does: 0.889 is 88.90."""
    return f"{100 * value:.2f}"


def score_of(summary: Mapping[str, Any]) -> str:
    """Write a run's weighted F1 with its spread: ``88.90 ± 0.31``."""
    return f"{percent(summary['weighted_f1_mean'])} ± {percent(summary['weighted_f1_std'])}"
