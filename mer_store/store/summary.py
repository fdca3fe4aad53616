"""Summaries: what a feature set holds, and what became of one clip, for people to read."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from mer_store.layers import Layer
from mer_store.store.feature_set import FeatureSet
from mer_store.store.ledger import Status


@dataclass(frozen=True)
class Summary:
    """What a feature set holds."""

    n_ok: int
    n_empty: int
    n_failed: int
    reasons: dict[str, int]
    """How many clips have no features, by kind of reason, the commonest first."""
    n_parts: int
    n_bytes: int
    """Of all arrays, on disk."""


@dataclass(frozen=True)
class Outcome:
    """What one part says of a clip."""

    part_id: str
    status: Status
    reason: str | None
    attempt: int
    layers: tuple[Layer, ...]
    n_rows: int
    current: bool
    """False where the part was made from other bytes than the clip's current ones: it is superseded."""


def summarise(feature_set: FeatureSet) -> Summary:
    """Count clips by outcome, and bytes."""
    statuses, reasons = Counter[Status](), Counter[str]()
    for _, status, reason in feature_set.outcomes():
        statuses[status] += 1
        if reason:
            reasons[reason_kind(reason)] += 1
    parts = feature_set.index.parts
    return Summary(
        n_ok=statuses[Status.OK],
        n_empty=statuses[Status.EMPTY],
        n_failed=statuses[Status.FAILED],
        reasons=dict(reasons.most_common()),
        n_parts=len(parts),
        n_bytes=sum(info.shard_bytes for part in parts for info in part.arrays.values()),
    )


def reason_kind(reason: str) -> str:
    """Leave out what differs from clip to clip, so that reasons can be counted."""
    return reason.split(":", 1)[0]


def outcomes_of(feature_set: FeatureSet, clip_id: str) -> list[Outcome]:
    """Return what each part says of a clip, the deciding one first."""
    index = feature_set.index
    [number] = index.find([clip_id])
    if number < 0:
        return []
    start = index.first[number]
    end = index.first[number + 1] if number + 1 < len(index.first) else len(index.rows)
    rows = index.rows[start:end]
    return [
        Outcome(
            part_id=index.parts[row["part"]].part_id,
            status=Status(int(row["status"])),
            reason=index.reasons[row["reason"]] if row["reason"] >= 0 else None,
            attempt=int(row["attempt"]),
            layers=index.parts[row["part"]].layers,
            n_rows=int(row["n_rows"]),
            current=bool(row["digest"] == rows[0]["digest"]),
        )
        for row in np.atleast_1d(rows)
    ]
