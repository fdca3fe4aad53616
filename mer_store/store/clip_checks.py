"""A checksum of each clip's rows in each layer, so that a few clips can be fetched alone and checked.

Chunks have checksums, too, but a chunk holds many clips' rows. These are kept in the part as one more array,
whose digest is in the commit record.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from mer_store.store.shard import ArrayInfo

#: Name of the array: uint32 [clips, layers], the layers in the order of the record.
CLIP_CHECKS = "crc32c"


def clip_checks(shard: Path, info: ArrayInfo, offsets: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Return [clips]: crc32c of the bytes of each clip's rows, without the chunks' own checksums.

    Parameters
    ----------
    shard
        The array's file.
    info
        Of the array.
    offsets
        [clips + 1]: clip c owns the rows ``offsets[c]:offsets[c + 1]``.
    """
    if not info.n_rows:
        return np.zeros(len(offsets) - 1, dtype=np.uint32)
    view = np.memmap(shard, dtype=np.uint8, mode="r").data
    n_rows = np.diff(offsets)
    chunk, inside = np.divmod(offsets[:-1], info.chunk_rows or 1)
    in_pieces = inside + n_rows > (info.chunk_rows or 1)  # never a single row
    begins = chunk * info.stride + inside * info.row_bytes
    ends = begins + np.where(in_pieces, 0, n_rows * info.row_bytes)
    spans = zip(begins.tolist(), ends.tolist(), strict=True)
    checks = [crc32c(view[begin:end]) for begin, end in spans]
    for clip in np.flatnonzero(in_pieces).tolist():
        pieces = row_bytes(info, int(offsets[clip]), int(offsets[clip + 1]))
        checks[clip] = check_of([view[slice(*span)] for span in pieces])
    return np.array(checks, dtype=np.uint32)


def row_bytes(info: ArrayInfo, start: int, stop: int) -> list[tuple[int, int]]:
    """Return where in a shard the bytes of a run of rows lie: one span a chunk."""
    chunk_rows, stride, width, spans = info.chunk_rows or 1, info.stride, info.row_bytes, []
    while start < stop:
        chunk, inside = divmod(start, chunk_rows)
        n_rows = min(stop - start, chunk_rows - inside)
        begin = chunk * stride + inside * width
        spans.append((begin, begin + n_rows * width))
        start += n_rows
    return spans


def check_of(pieces: Sequence[bytes | memoryview | NDArray[Any]]) -> int:
    """Return the crc32c of pieces that follow each other."""
    value = 0
    for piece in pieces:
        value = crc32c(piece.data if isinstance(piece, np.ndarray) else piece, value)
    return value
