"""Runs of rows as spans of bytes of a shard."""

from collections.abc import Iterable

import numpy as np

from mer_store.store.clip_checks import row_bytes
from mer_store.store.shard import CRC_BYTES, ArrayInfo, crc_of
from mer_store.store.shard_file import ChunkDamaged

Span = tuple[int, int]
#: Spans so near to each other are fetched by one request.
GAP_BYTES = 1 << 12


def byte_span(info: ArrayInfo, run: tuple[int, int], *, whole_chunks: bool) -> Span:
    """Return the first byte of a run of rows and the one after its last; or of the chunks that hold it."""
    if whole_chunks:
        chunk_rows = info.chunk_rows or 1
        return run[0] // chunk_rows * info.stride, -(-run[1] // chunk_rows) * info.stride
    pieces = row_bytes(info, *run)
    return pieces[0][0], pieces[-1][1]


def merged(spans: Iterable[Span]) -> list[Span]:
    """Join spans that overlap or nearly touch, ascending."""
    joined: list[Span] = []
    for begin, end in sorted(spans):
        if joined and begin - joined[-1][1] <= GAP_BYTES:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((begin, end))
    return joined


def as_rows(
    info: ArrayInfo, run: tuple[int, int], begin: int, view: memoryview
) -> list[memoryview]:
    """Return the bytes of a run's rows, out of `view`, which starts at byte `begin` of the shard."""
    return [view[start - begin : stop - begin] for start, stop in row_bytes(info, *run)]


def verify_chunks(
    info: ArrayInfo, run: tuple[int, int], begin: int, view: memoryview, where: str
) -> None:
    """Check the chunks that hold a run by their own checksums.

    Raises
    ------
    ChunkDamaged
        One of them is wrong.
    """
    chunk_rows = info.chunk_rows or 1
    for chunk in range(run[0] // chunk_rows, -(-run[1] // chunk_rows)):
        data = view[chunk * info.stride - begin : (chunk + 1) * info.stride - begin]
        stated = int.from_bytes(data[-CRC_BYTES:], "little")
        if crc_of(np.frombuffer(data[:-CRC_BYTES], np.uint8)) != stated:
            rows = (chunk * chunk_rows, min((chunk + 1) * chunk_rows, info.n_rows))
            raise ChunkDamaged(f"{where}: chunk {chunk}: checksum differs", rows)
