"""What a store must say, worked out again in plain Python from what was committed to it."""

from dataclasses import dataclass

import numpy as np
from part_factory import make_spec, values_of

from mer_store.store.ledger import Status
from mer_store.store.writer import ClipRows, PartWriter

SPEC = make_spec()
CLIPS = ("p", "q", "r", "s")
LAYERS = (18, 19, 20)


@dataclass(frozen=True)
class Row:
    """What became of a clip in one part. The same bytes give the same numbers, whoever extracts them."""

    status: str
    seed: int | None
    """Stands for the clip's bytes; None where they could not be read."""

    @property
    def digest(self):
        return None if self.seed is None else f"d{self.seed}"

    @property
    def n_rows(self):
        return self.seed % 3 if self.status == "ok" else 0

    def values(self, clip_id, layer):
        return values_of(clip_id, layer, self.n_rows, self.seed)


@dataclass(frozen=True)
class Part:
    """A committed part."""

    attempt: int
    layers: tuple[int, ...]
    rows: dict[str, Row]

    @classmethod
    def of(cls, record):
        """Read a record."""
        rows = {
            row.clip_id: Row(row.status, None if row.digest is None else int(row.digest[1:]))
            for row in record.ledger
        }
        return cls(record.attempt, record.layers, rows)

    def write(self, feature_set):
        """Commit it; return its id."""
        with PartWriter(feature_set, self.layers, self.attempt) as writer:
            for clip_id, row in self.rows.items():
                layers = (
                    {n: row.values(clip_id, n) for n in self.layers} if row.status == "ok" else {}
                )
                reason = None if row.status == "ok" else f"{row.status}: it is"
                writer.add(ClipRows(clip_id, row.status, reason, row.digest, layers=layers))
            return writer.commit().part_id


def merged(parts):
    """Return clip -> (status, digest, attempt, layer -> values) that parts, by id, say together."""
    told = {}
    for clip_id in CLIPS:
        rows = sorted(
            (part.rows[clip_id].seed is None, -part.attempt, part_id)
            for part_id, part in parts.items()
            if clip_id in part.rows
        )
        if not rows:
            continue
        named = [parts[part_id] for _, _, part_id in rows]
        current = named[0].rows[clip_id]
        serving = [
            p
            for p in named
            if p.rows[clip_id].status == "ok" and p.rows[clip_id] == Row("ok", current.seed)
        ]
        layers = {layer for part in serving for layer in part.layers}
        status = Status.OK if serving else Status[current.status.upper()]
        attempt = max(part.attempt for part in named)
        values = {n: Row("ok", current.seed).values(clip_id, n).tolist() for n in sorted(layers)}
        told[clip_id] = (status, current.digest, attempt, values)
    return told


def told(feature_set):
    """Return the same as a feature set says it."""
    ledger = feature_set.ledger(CLIPS)
    has = ledger.has(ledger.layers)
    answers = {}
    for n, clip_id in enumerate(CLIPS):
        if ledger.status[n] == Status.MISSING:
            continue
        layers = [layer for layer, there in zip(ledger.layers, has[n], strict=True) if there]
        values = {m: feature_set.ragged([m], [clip_id])[0][:, 0] for m in layers}
        values = {m: np.asarray(rows, np.float32).tolist() for m, rows in values.items()}
        answers[clip_id] = (Status(ledger.status[n]), ledger.digest[n], ledger.attempt[n], values)
    return answers
