"""Reading rows of many clips out of many parts, in the order asked."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mer_store.store.index import Index
from mer_store.store.part_reader import ArrayReader, Parts
from mer_store.store.shard_file import Array
from mer_store.store.shard_reader import ClipRun, Rows

#: From this share of an array on, reading all of it from front to back is faster than picking rows.
WHOLESALE_SHARE = 0.5
#: From this much on, reading is shared out to threads, in spans of so many bytes; for less, starting them and
#: sharing the processors takes longer than it saves (16 MB: 3.4 ms by one, 6.4 by two on two busy cores).
THREADED_BYTES = 48 * 2**20
SPAN_BYTES = 16 * 2**20
MAX_THREADS = 8
#: So few numbers are told apart sooner by Python than by numpy.
_FEW = 200

Job = Callable[[], None]


class Places(NamedTuple):
    """Where single rows lie, [clips] each."""

    part: NDArray[np.int32]
    row: Rows
    clip: Rows
    """Number, in its part, of the clip that has this one row."""


def distinct(parts: NDArray[np.int32]) -> list[int]:
    """Return which parts there are, each once."""
    return list({*parts.tolist()}) if len(parts) < _FEW else np.unique(parts).tolist()


def by_part(parts: NDArray[np.integer]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Yield each part with the positions that ask for it, ascending."""
    if not len(parts):
        return
    if (parts == parts[0]).all():
        yield int(parts[0]), np.arange(len(parts))
        return
    if parts.max() < 1 << 16:
        parts = parts.astype(np.uint16)  # numpy sorts these by digits, seven times as fast
    order = np.argsort(parts, kind="stable")
    ordered = parts[order]
    starts = [0, *(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1).tolist()]
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        yield int(ordered[start]), order[start:end]


def take_rows(parts: Parts, name: str, places: Places, *, verify: bool) -> Array | None:
    """Return rows as `read_single_rows`, with no copy between; None unless they are a few of one part."""
    where = places.part
    if not len(where) or (where != where[0]).any():
        return None
    part = int(where[0])
    reader = parts.array(part, name)
    if len(where) >= WHOLESALE_SHARE * reader.info.n_rows:
        return None
    with parts.naming(part, name):
        return reader.take(places.row, verify=verify, clips=places.clip)


def read_single_rows(parts: Parts, name: str, places: Places, out: Array, *, verify: bool) -> None:
    """Read one row each, the one at ``places[c]``, into ``out[c]`` [clips, D].

    Where it is much, spans of the parts are read, checked and put in place by threads side by side.
    """
    n_threads = _n_threads(out.nbytes)
    span_bytes = min(SPAN_BYTES, out.nbytes // n_threads)
    jobs: list[tuple[int, Job]] = []
    again: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
    for part, positions in by_part(places.part):
        reader, rows = parts.array(part, name), places.row[positions]
        if len(rows) < WHOLESALE_SHARE * reader.info.n_rows:
            clips = places.clip[positions]
            jobs.append((part, partial(_pick, reader, rows, clips, positions, out, verify=verify)))
            continue
        place = np.full(reader.info.n_rows, -1, dtype=np.intp)
        place[rows] = positions
        given = place[rows]
        if (other := given != positions).any():  # rows that are wanted twice are read once
            again.append((positions[other], given[other]))
        for start, stop in reader.spans(span_bytes):
            if (place[start:stop] >= 0).any():
                drop = partial(_drop, reader, start, place[start:stop], out, verify=verify)
                jobs.append((part, drop))

    def run(job: tuple[int, Job]) -> None:
        with parts.naming(job[0], name):
            job[1]()

    n_threads = min(n_threads, len(jobs))
    if n_threads < 2:
        for job in jobs:
            run(job)
    else:  # a pool of this call alone: when it returns or fails no thread is left
        with ThreadPoolExecutor(n_threads, "read") as pool:
            list(pool.map(run, jobs))
    for twice, once in again:
        out[twice] = out[once]


def _n_threads(n_bytes: int) -> int:
    """Return how many threads may read so many bytes."""
    return min(len(os.sched_getaffinity(0)), MAX_THREADS) if n_bytes >= THREADED_BYTES else 1


def _pick(
    reader: ArrayReader, rows: Rows, clips: Rows, positions: NDArray[np.intp], out: Array,
    *, verify: bool,
) -> None:  # fmt: skip
    """Read some clips' rows to their positions."""
    every = len(positions) == len(out)
    out[... if every else positions] = reader.take(rows, verify=verify, clips=clips)


def _drop(
    reader: ArrayReader, first: int, place: NDArray[np.intp], out: Array, *, verify: bool
) -> None:
    """Read the rows from `first` on from front to back, each to its place; -1 is not wanted."""
    to, n_rows = int(place[0]), len(place)
    if to >= 0 and (place == np.arange(to, to + n_rows)).all():
        target = out[to : to + n_rows]
        if target.dtype == reader.dtype and target.flags.c_contiguous:
            reader.read(target, first, verify=verify)
            return
    for start, block in reader.stream(first, first + n_rows, verify=verify):
        places = place[start - first : start - first + len(block)]
        wanted = places >= 0
        if wanted.all():
            out[places] = block
        else:
            out[places[wanted]] = block[wanted]


def read_runs(
    index: Index, parts: Parts, names: Sequence[str], serving: NDArray[np.int32], outs: Sequence[Array],
    *, verify: bool,
) -> None:  # fmt: skip
    """Read runs of rows: clip c's run of layer l, at index row ``serving[l, c]``, into ``outs[c][:, l]``."""
    fields = ("part", "row_start", "clip_row")
    where, starts, clips = (index.of_rows(name, serving) for name in fields)
    number, layer = np.divmod(np.arange(serving.size), len(serving))
    columns = (layer, number, where.T.ravel(), starts.T.ravel(), clips.T.ravel())
    order = np.lexsort((columns[3], layer, columns[2]))
    runs = [
        (names[layer], parts.array(part, names[layer]), part, start, outs[n][:, layer], clip)
        for layer, n, part, start, clip in zip(*(c[order].tolist() for c in columns), strict=True)
    ]
    for (part, name, reader), of_array in groupby(runs, key=lambda run: (run[2], run[0], run[1])):
        with parts.naming(part, name):
            reader.prefetch(
                [ClipRun(run[3], len(run[4]), run[5]) for run in of_array], verify=verify
            )
    # Clip by clip: its rows of all layers are one piece of memory.
    for place in np.argsort(order).tolist():
        name, reader, part, start, out, clip = runs[place]
        with parts.naming(part, name):
            reader.copy(start, out, verify=verify, clip=clip)
