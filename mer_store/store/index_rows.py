"""Rows of the index: one per ledger row of every part, each clip's deciding row first."""

import json
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_store.store.ledger import Status
from mer_store.store.record import CommitRecord

Rows = NDArray[np.void]

#: Ids hashed at once: bounds the memory that one very long id would take.
_HASH_BLOCK = 1 << 14


def row_dtype(id_bytes: int, digest_bytes: int) -> np.dtype[np.void]:
    """Return the type of an index row, for ids and digests of at most so many bytes."""
    return np.dtype(
        [
            ("hash", "<u8"),
            ("row_start", "<i8"),
            ("n_bytes", "<i8"),
            ("mtime_ns", "<i8"),
            ("n_rows", "<i8"),
            ("part", "<i4"),
            ("attempt", "<i4"),
            ("clip_row", "<i4"),
            ("reason", "<i4"),
            ("status", "u1"),
            ("digest", f"S{max(digest_bytes, 1)}"),
            ("clip_id", f"S{max(id_bytes, 1)}"),
        ]
    )


@cache
def _multipliers(n: int) -> NDArray[np.uint64]:
    """Return `n` fixed odd numbers that look random (splitmix64)."""
    z = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))) | np.uint64(1)


def hash_ids(clip_ids: Sequence[str] | NDArray[np.str_]) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each clip id, the same on every machine, computed on all ids at once."""
    hashes = np.empty(len(clip_ids), dtype=np.uint64)
    for start in range(0, len(clip_ids), _HASH_BLOCK):
        ids = np.asarray(clip_ids[start : start + _HASH_BLOCK], dtype=np.str_)
        points = (
            ids.view(np.uint32).reshape(len(ids), -1)
            if ids.itemsize
            else np.zeros((len(ids), 0), "u4")
        )
        block = points.astype(np.uint64) @ _multipliers(points.shape[1])
        hashes[start : start + len(ids)] = block ^ (block >> np.uint64(32))
    return hashes


def rows_of(record: CommitRecord, part: int, reasons: dict[str, int]) -> Rows:
    """Return a part's rows; `reasons` maps texts to numbers and grows."""
    ledger = record.ledger
    clip_ids = [row.clip_id.encode() for row in ledger]
    digests = [(row.digest or "").encode() for row in ledger]
    rows = np.zeros(
        len(ledger),
        dtype=row_dtype(max(map(len, clip_ids), default=1), max(map(len, digests), default=1)),
    )
    rows["hash"] = hash_ids([row.clip_id for row in ledger])
    rows["clip_id"] = clip_ids
    rows["digest"] = digests
    rows["part"] = part
    rows["attempt"] = record.attempt
    rows["status"] = [Status[row.status.upper()] for row in ledger]
    rows["n_rows"] = [row.n_rows for row in ledger]
    rows["row_start"] = np.cumsum(rows["n_rows"]) - rows["n_rows"]
    is_ok = rows["status"] == Status.OK
    rows["clip_row"] = np.cumsum(is_ok) - is_ok
    rows["n_bytes"] = [-1 if row.n_bytes is None else row.n_bytes for row in ledger]
    rows["mtime_ns"] = [-1 if row.mtime_ns is None else row.mtime_ns for row in ledger]
    rows["reason"] = [
        -1 if row.reason is None else reasons.setdefault(row.reason, len(reasons)) for row in ledger
    ]
    return rows


def joined(pieces: Iterable[Rows]) -> Rows:
    """Join rows whose ids and digests differ in width."""
    pieces = list(pieces)
    dtype = row_dtype(
        max((piece.dtype["clip_id"].itemsize for piece in pieces), default=1),
        max((piece.dtype["digest"].itemsize for piece in pieces), default=1),
    )
    rows = np.zeros(sum(map(len, pieces)), dtype=dtype)
    start = 0
    for piece in pieces:
        rows[start : start + len(piece)] = piece.astype(dtype)
        start += len(piece)
    return rows


def in_order(rows: Rows) -> Rows:
    """Sort rows by clip; of one clip: with a digest first, then highest attempt, then lowest part."""
    keys: list[Any] = [rows["part"], -rows["attempt"], rows["digest"] == b""]
    order = np.lexsort((*keys, rows["hash"]))
    hashes, ids = rows["hash"][order], rows["clip_id"][order]
    if (
        (hashes[1:] == hashes[:-1]) & (ids[1:] != ids[:-1])
    ).any():  # two ids of one hash: keep them apart
        _, id_rank = np.unique(rows["clip_id"], return_inverse=True)
        order = np.lexsort((*keys, id_rank, rows["hash"]))
    return rows[order]


def first_of_clip(rows: Rows) -> NDArray[np.intp]:
    """Return where each clip's rows start in ordered rows."""
    if not len(rows):
        return np.zeros(0, dtype=np.intp)
    starts = np.ones(len(rows), dtype=bool)
    starts[1:] = (rows["hash"][1:] != rows["hash"][:-1]) | (
        rows["clip_id"][1:] != rows["clip_id"][:-1]
    )
    return np.flatnonzero(starts)


def reasons_text(reasons: Sequence[str]) -> NDArray[np.uint8]:
    """Pack the reasons into bytes."""
    return np.frombuffer(json.dumps(list(reasons), ensure_ascii=False).encode(), dtype=np.uint8)


def decoded(texts: NDArray[np.bytes_]) -> NDArray[np.str_]:
    """Turn UTF-8 into text."""
    try:
        return texts.astype(np.str_)  # ASCII, at C speed
    except UnicodeDecodeError:
        return np.strings.decode(texts, "utf-8")


def same_ids(stored: NDArray[np.bytes_], asked: NDArray[np.str_]) -> NDArray[np.bool_]:
    """[n]: whether each id, stored as UTF-8, is the one asked for."""
    points = asked.view(np.uint32)
    if points.max(initial=0) < 128:  # ASCII, as nearly always: compared as bytes, ten times as fast
        same: NDArray[np.bool_] = stored == points.astype(np.uint8).view(f"S{asked.itemsize // 4}")
    else:
        same = decoded(stored) == asked
    return same
