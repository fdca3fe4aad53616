"""How scores are written: in percent, with the spread, and which epoch they are of."""

from collections.abc import Mapping
from typing import Any

from pipelines.report.html import Number

SELECTIONS = {
    "last": "the last one; nothing was chosen.",
    "inner": "the best on a part of the training folds; the scored fold was not looked at.",
    "fold": "the best on the scored fold itself, as the official baseline does: optimistic.",
}
OPTIMISTIC = "fold"


def percent(value: float) -> Number:
    """Write a share as the field does: 0.889 is 88.90."""
    return Number(f"{100 * value:.2f}")


def score_of(summary: Mapping[str, Any]) -> Number:
    """Write a run's weighted F1 with its spread: ``88.90 ± 0.31``."""
    return Number(f"{percent(summary['weighted_f1_mean'])} ± {percent(summary['weighted_f1_std'])}")


def count(number: int, noun: str) -> str:
    """Write how many there are: ``1 repeat``, ``1,200 clips``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def moment(written: str) -> str:
    """Write a time as ``2026-11-25 12:13``."""
    return written[:16].replace("T", " ")
