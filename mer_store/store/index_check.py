"""Whether an index that was read from disk can be used: its numbers point inside each other and the parts.

The index is derived, and whoever may write the store's folder may have written it. Its checksums find
accidents, not intent: without these checks a row number could lead outside an array, or to another clip.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_store.store.index import Index
from mer_store.store.index_rows import row_dtype
from mer_store.store.layout import PART_ID
from mer_store.store.ledger import Status
from mer_store.store.part_files import OFFSETS
from mer_store.store.plain_file import is_safe_path
from mer_store.store.record import array_info
from mer_store.store.record_rules import count_of, layer_of

_TYPES = {
    "hashes": (np.uint64, 1),
    "first": (np.int64, 1),
    "attempt": (np.int32, 1),
    "status": (np.uint8, 1),
    "served": (np.int32, 2),
    "saved_order": (np.int32, 1),
    "reasons_text": (np.uint8, 1),
}


def is_usable(index: Index) -> bool:
    """Tell whether an index holds together. It may raise ValueError, TypeError or KeyError instead."""
    return (
        _types_fit(index)
        and _parts_fit(index)
        and _clips_fit(index)
        and _rows_fit(index)
        and _served_fit(index)
    )


def _types_fit(index: Index) -> bool:
    fields: Any = index.rows.dtype.fields
    ids, digests = fields["clip_id"][0], fields["digest"][0]
    n_clips = len(index.first)
    return (
        index.rows.dtype == row_dtype(ids.itemsize, digests.itemsize)
        and index.rows.ndim == 1
        and all(
            (getattr(index, name).dtype, getattr(index, name).ndim) == (np.dtype(kind), n_axes)
            for name, (kind, n_axes) in _TYPES.items()
        )
        and index.served.shape == (len(index.names), n_clips)
        and len(index.hashes) == len(index.attempt) == len(index.status) == n_clips
        and index.saved_order is not None
        and len(index.saved_order) == n_clips
        and all(isinstance(reason, str) for reason in index.reasons)
    )


def _parts_fit(index: Index) -> bool:
    for part in index.parts:
        if not PART_ID.fullmatch(part.part_id) or not all(map(is_safe_path, part.arrays)):
            return False
        count_of(part.attempt)
        for layer in part.layers:
            layer_of(str(layer))
        for info in part.arrays.values():
            array_info(list(info.shape), info.dtype, info.chunk_rows)
    names = {name for part in index.parts for name in part.served_names}
    return len(index.names) == len(names) and set(index.names) == names


def _clips_fit(index: Index) -> bool:
    """Tell whether clips' rows follow each other, clips are in the order of their hashes, texts are texts."""
    first, rows = index.first, index.rows
    if not len(first):
        return not len(rows)
    return bool(
        first[0] == 0
        and first[-1] < len(rows)
        and (first[1:] > first[:-1]).all()
        and (index.hashes[1:] >= index.hashes[:-1]).all()
        and (rows["hash"][first] == index.hashes).all()
        and (index.status <= max(Status)).all()
        and _is_text(rows["clip_id"])
        and _is_text(rows["digest"])
    )


def _is_text(texts: NDArray[np.bytes_]) -> bool:
    data = np.ascontiguousarray(texts).view(np.uint8)
    if data.max(initial=0) >= 128:
        np.strings.decode(texts, "utf-8")  # a UnicodeDecodeError is a ValueError
    return True


def _rows_fit(index: Index) -> bool:
    """Tell whether the rows of arrays lie inside all arrays of their part."""
    rows = index.rows
    if not _within(rows["part"], len(index.parts)) or not _within(rows["status"], max(Status) + 1):
        return False
    ok = rows["status"] == Status.OK
    part, start, n_rows = (rows[name][ok] for name in ("part", "row_start", "n_rows"))
    limit, n_clips = _limits(index)
    return bool(
        _within(rows["reason"], len(index.reasons), -1)
        and (start >= 0).all()
        and (n_rows >= 0).all()
        and (start <= limit[part]).all()
        and (n_rows <= limit[part] - start).all()
        and (rows["clip_row"][ok] >= 0).all()
        and (rows["clip_row"][ok] < n_clips[part]).all()
    )


def _limits(index: Index) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return [parts]: rows that all layers have; clips that the part and all its tables speak of."""
    n_rows, n_clips = [], []
    for part in index.parts:
        layers = [part.arrays[str(layer)] for layer in part.layers if str(layer) in part.arrays]
        offsets = [part.arrays[f"{table}{OFFSETS}"] for table in ("", *_prefixes(part.tables))]
        has_all = len(layers) == len(part.layers) and all(len(info.shape) == 2 for info in layers)
        n_rows.append(min(info.n_rows for info in layers) if has_all else 0)
        n_clips.append(min(info.n_rows for info in offsets) - 1 if has_all else 0)
    return np.array(n_rows, dtype=np.int64), np.array(n_clips, dtype=np.int64)


def _prefixes(tables: tuple[str, ...]) -> list[str]:
    return [f"{table}/" for table in tables]


def _served_fit(index: Index) -> bool:
    """Tell whether what serves a layer of a clip is an ok row of this clip, of a part that has the layer."""
    served, rows, first = index.served, index.rows, index.first
    end = np.append(first[1:], len(rows))
    for name, column in zip(index.names, served, strict=True):
        clips = np.flatnonzero(column >= 0)
        row = column[clips].astype(np.int64)
        if (column < -1).any() or (row < first[clips]).any() or (row >= end[clips]).any():
            return False
        has_name = np.array([name in part.served_names for part in index.parts], dtype=bool)
        if not (has_name[rows["part"][row]] & (rows["status"][row] == Status.OK)).all():
            return False
    return True


def _within(numbers: NDArray[Any], limit: int, least: int = 0) -> bool:
    return bool((numbers >= least).all() and (numbers < limit).all())
