"""One reading of a file of a part: its digest and, of a shard, its chunks' checksums and its values."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from mer_store.store.finite import fits
from mer_store.store.plain_file import open_inside
from mer_store.store.record import FileFacts
from mer_store.store.shard import CRC_BYTES, ArrayInfo, shard_index

#: Read at once: each read and each hash gives up the interpreter and must wait to have it back.
_BLOCK_BYTES = 1 << 23

Hook = Callable[[int], None]
"""Told how many bytes were just read; may raise to stop."""


@dataclass
class Look:
    """What reading a file once told. The lists are empty for what is no shard of ours."""

    facts: FileFacts
    """The digest is empty where the size is not what was expected: then nothing was read."""
    wrong_index: bool = False
    """Whether the shard's index is not the one that fits its shape."""
    damaged: list[tuple[int, int]] = field(default_factory=list)
    """Rows of chunks that fail their checksum."""
    not_finite: list[int] = field(default_factory=list)
    """Rows that hold a NaN or an infinity, as far as this was asked for."""
    checks: NDArray[np.uint32] | None = None
    """[clips]: checksum of each clip's rows, where `starts` were given."""
    values: NDArray[Any] | None = None
    """The whole array, where it was asked for."""


@dataclass(frozen=True)
class Wanted:
    """What to find out about an array while its file is hashed."""

    info: ArrayInfo
    keep: bool = False
    """Return the values."""
    finite: bool = False
    """Look for values that are not finite."""
    starts: NDArray[np.int64] | None = None
    """[clips + 1]: work out the checksum of each clip's rows ``starts[c]:starts[c + 1]``."""


def look(
    part: Path, path: str, expected_bytes: int, wanted: Wanted | None, hook: Hook | None = None
) -> Look:
    """Read a file once.

    Parameters
    ----------
    part, path
        The file, as for `open_inside`, which says what is raised.
    expected_bytes
        A file of another size is not read.
    wanted
        Where the file is a regular shard.
    hook
        Told of the progress.
    """
    descriptor = open_inside(part, path)
    try:
        n_bytes = os.fstat(descriptor).st_size
        if n_bytes != expected_bytes:
            return Look(FileFacts(n_bytes, ""))
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        if wanted is not None and wanted.info.shard_bytes == n_bytes:
            return _Shard(descriptor, wanted, hook).look()
        return _plain(descriptor, n_bytes, hook)
    finally:
        os.close(descriptor)


def _plain(descriptor: int, n_bytes: int, hook: Hook | None) -> Look:
    digest, n_read = hashlib.sha256(), 0
    buffer = memoryview(bytearray(min(_BLOCK_BYTES, n_bytes)))
    while n := os.readv(descriptor, [buffer]) if n_bytes else 0:
        digest.update(buffer[:n])
        n_read += n
        if hook:
            hook(n)
    return Look(FileFacts(n_read, digest.hexdigest()))


class _Shard:
    """Goes over a shard from front to back."""

    def __init__(self, descriptor: int, wanted: Wanted, hook: Hook | None) -> None:
        self._descriptor, self._wanted, self._hook = descriptor, wanted, hook
        self._digest = hashlib.sha256()
        self._n_read = 0
        self._look = Look(FileFacts(0, ""))
        self._clips = None if wanted.starts is None else _ClipChecks(wanted.starts)
        self._kept: list[NDArray[Any]] = []

    def look(self) -> Look:
        """Read all of it."""
        info, found = self._wanted.info, self._look
        n_batch = max(min(_BLOCK_BYTES // info.stride, info.n_chunks), 1)
        buffer = np.empty(n_batch * info.stride, np.uint8)
        for first in range(0, info.n_chunks, n_batch):
            n_chunks = min(n_batch, info.n_chunks - first)
            self._read(buffer[: n_chunks * info.stride])
            for number in range(n_chunks):
                place = number * info.stride
                self._chunk(first + number, buffer[place : place + info.stride])
        tail = np.empty(info.index_bytes, np.uint8)
        self._read(tail)
        found.wrong_index = tail.tobytes() != shard_index(info)
        found.facts = FileFacts(self._n_read, self._digest.hexdigest())
        found.checks = None if self._clips is None else self._clips.checks
        if self._wanted.keep:
            found.values = np.concatenate(self._kept)
        return found

    def _read(self, into: NDArray[np.uint8]) -> None:
        """Fill `into`; a file that is cut while it is read gives another digest."""
        view, done = into.data, 0
        while done < len(into) and (n := os.readv(self._descriptor, [view[done:]])):
            done += n
        self._digest.update(view[:done])
        self._n_read += done
        into[done:] = 0
        if self._hook:
            self._hook(done)

    def _chunk(self, number: int, data: NDArray[np.uint8]) -> None:
        info, wanted = self._wanted.info, self._wanted
        chunk_rows = info.chunk_rows or 1
        first, stop = number * chunk_rows, min((number + 1) * chunk_rows, info.n_rows)
        body = data[: info.chunk_bytes]
        if crc32c(body.data) != int.from_bytes(data[-CRC_BYTES:].tobytes(), "little"):
            self._look.damaged.append((first, stop))
        if self._clips is not None:
            self._clips.add(first, stop, body.data, info.row_bytes)
        if not (wanted.finite or wanted.keep):
            return
        rows = body.view(np.dtype(info.dtype).newbyteorder("<")).reshape(-1, *info.shape[1:])
        rows = rows[: stop - first]
        if wanted.keep:
            self._kept.append(rows.copy())
        if wanted.finite and fits(rows, rows.dtype) is None:
            bad = np.flatnonzero(~np.isfinite(rows).reshape(len(rows), -1).all(axis=1))
            self._look.not_finite += (first + bad).tolist()


class _ClipChecks:
    """Works out each clip's checksum while rows come by."""

    def __init__(self, starts: NDArray[np.int64]) -> None:
        self.checks = np.zeros(len(starts) - 1, np.uint32)
        self._starts: list[int] = starts.tolist()
        self._clip = 0
        self._value = 0

    def add(self, first: int, stop: int, data: memoryview, row_bytes: int) -> None:
        """Take the rows from `first` up to `stop`."""
        starts, clip, value = self._starts, self._clip, self._value
        n_clips = len(self.checks)
        while clip < n_clips and starts[clip] < stop:
            begin, end = max(starts[clip], first) - first, min(starts[clip + 1], stop) - first
            value = crc32c(data[begin * row_bytes : end * row_bytes], value)
            if starts[clip + 1] > stop:
                break
            self.checks[clip] = value
            clip, value = clip + 1, 0
        self._clip, self._value = clip, value
