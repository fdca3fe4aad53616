"""Reading rows of many clips out of many parts, in the order asked."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from mer_store.store.index import Index
from mer_store.store.part_reader import ArrayReader, Parts
from mer_store.store.shard_reader import Array, Rows

#: From this share of an array on, reading all of it from front to back is faster than picking rows.
WHOLESALE_SHARE = 0.5
#: From this much on, parts are read side by side.
THREADED_BYTES = 8 * 2**20
MAX_THREADS = 8


def by_part(parts: NDArray[np.int32]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Yield each part with the positions that ask for it, ascending."""
    if not len(parts):
        return
    if (parts == parts[0]).all():
        yield int(parts[0]), np.arange(len(parts))
        return
    order = np.argsort(parts, kind="stable")
    ordered = parts[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1)).tolist()
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        yield int(ordered[start]), order[start:end]


def read_single_rows(
    index: Index, parts: Parts, name: str, serving: NDArray[np.int32], out: Array, *, verify: bool
) -> None:
    """Read the one row each that `serving` (rows of the index) points at into `out` [clips, D].

    Parts of which most is wanted are read in threads, each by one of them.
    """
    starts = index.rows["row_start"][serving]
    wholesale = []
    for part, positions in by_part(index.rows["part"][serving]):
        reader, rows = parts.array(part, name), starts[positions]
        if len(rows) >= WHOLESALE_SHARE * reader.info.n_rows:
            wholesale.append((part, reader, rows, positions))
            continue
        with parts.naming(part, name):
            every = len(positions) == len(out)
            out[... if every else positions] = reader.take(rows, verify=verify)

    def read(job: tuple[int, ArrayReader, Rows, NDArray[np.intp]]) -> None:
        part, reader, rows, positions = job
        with parts.naming(part, name):
            _read_most(reader, rows, positions, out, verify=verify)

    if len(wholesale) < 2 or out.nbytes < THREADED_BYTES:
        for job in wholesale:
            read(job)
        return
    with ThreadPoolExecutor(min(len(os.sched_getaffinity(0)), MAX_THREADS), "read") as pool:
        list(pool.map(read, wholesale))


def _read_most(
    reader: ArrayReader, rows: Rows, positions: NDArray[np.intp], out: Array, *, verify: bool
) -> None:
    """Read from front to back and drop each row where it belongs."""
    n_rows = reader.info.n_rows
    place = np.full(n_rows, -1, dtype=np.intp)
    place[rows] = positions
    if (place >= 0).sum() != len(rows):  # a row is wanted twice
        first_of = place[rows]
        _read_most(
            reader,
            rows[first_of == positions],
            positions[first_of == positions],
            out,
            verify=verify,
        )
        out[positions] = out[first_of]
        return
    first = int(place[0])
    if len(rows) == n_rows and (place == np.arange(first, first + n_rows)).all():
        target = out[first : first + n_rows]
        if target.dtype == reader.dtype and target.flags.c_contiguous:
            reader.read(target, verify=verify)
            return
    for start, block in reader.stream(verify=verify):
        to = place[start : start + len(block)]
        wanted = to >= 0
        if wanted.all():
            out[to] = block
        else:
            out[to[wanted]] = block[wanted]


def read_runs(
    index: Index, parts: Parts, names: Sequence[str], serving: NDArray[np.int32], outs: Sequence[Array],
    *, verify: bool,
) -> None:  # fmt: skip
    """Read runs of rows: clip c's run of layer l, at index row ``serving[l, c]``, into ``outs[c][:, l]``."""
    where, starts = index.rows["part"][serving], index.rows["row_start"][serving]
    layer, clip = np.divmod(np.arange(serving.size), max(serving.shape[1], 1))
    order = np.lexsort((starts.ravel(), layer, where.ravel()))
    columns = (layer, clip, where.ravel(), starts.ravel())
    runs = [
        (names[layer], parts.array(part, names[layer]), part, start, outs[clip][:, layer])
        for layer, clip, part, start in zip(*(c[order].tolist() for c in columns), strict=True)
    ]
    for name, reader, part, start, out in runs:
        with parts.naming(part, name):
            reader.prefetch(start, len(out), verify=verify)
    for name, reader, part, start, out in runs:
        with parts.naming(part, name):
            reader.copy(start, out, verify=verify)
