"""One array of a part, read by computed offset: no metadata is opened, every chunk is checked once."""

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from mer_store.errors import StoreDamagedError
from mer_store.store.layout import open_inside, reading
from mer_store.store.mappings import MAPPINGS
from mer_store.store.shard import CRC_BYTES, ArrayInfo, shard_index, shard_path

Array = NDArray[Any]
Rows = NDArray[np.int64]

#: Below so many bytes a run of rows is one of many small ones: worth asking first whether it is in memory.
_SMALL_RUN_BYTES = 1 << 15
_N_PROBES = 32


class ChunkDamaged(Exception):  # noqa: N818 - caught where the clips' names are known
    """Bytes of an array are missing or wrong. `rows` is the span affected, None where it is all of them."""

    def __init__(self, text: str, rows: tuple[int, int] | None = None) -> None:
        super().__init__(text)
        self.rows = rows


class ShardReader:
    """Reads one regular shard.

    Parameters
    ----------
    part
        The part's folder.
    name
        The array's path inside it, e.g. ``18`` or ``images/offsets``.
    info
        As the commit record says.
    """

    def __init__(self, part: Path, name: str, info: ArrayInfo) -> None:
        self.info = info
        self.dtype = np.dtype(info.dtype).newbyteorder("<")
        self._part = part
        self._path = shard_path(name, info)
        self._verified = np.zeros(info.n_chunks, dtype=bool)
        self._index_checked = False
        self.mapping: mmap.mmap | None = None

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Open the shard's file and check its size and, once, its index."""
        where = self._part / self._path
        try:
            with reading(where):
                descriptor = open_inside(self._part, self._path)
        except FileNotFoundError as error:
            raise ChunkDamaged(f"{where}: missing") from error
        except StoreDamagedError as error:
            raise ChunkDamaged(str(error)) from error
        try:
            n_bytes = os.fstat(descriptor).st_size
            if n_bytes != self.info.shard_bytes:
                raise ChunkDamaged(
                    f"{where}: expected {self.info.shard_bytes} bytes, got {n_bytes}"
                )
            if not self._index_checked:
                place = self.info.n_chunks * self.info.stride
                if os.pread(descriptor, self.info.index_bytes, place) != shard_index(self.info):
                    raise ChunkDamaged(f"{where}: the shard's index is wrong")
                self._index_checked = True
            yield descriptor
        finally:
            os.close(descriptor)

    def _mapped(self) -> mmap.mmap:
        """Return the shard mapped into memory."""
        mapped = self.mapping
        if mapped is None:
            with self._opened() as descriptor:
                self.mapping = mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        MAPPINGS.used(self)
        return mapped

    def _chunks(self, mapped: mmap.mmap) -> Array:
        """Return the shard as [chunks, chunk rows, ...], stepping over the checksums."""
        info, itemsize = self.info, self.dtype.itemsize
        inner = (info.row_bytes,) if len(info.shape) == 1 else (info.row_bytes, itemsize)
        return np.ndarray(
            (info.n_chunks, info.chunk_rows or 0, *info.shape[1:]),
            self.dtype,
            buffer=mapped,
            strides=(info.stride, *inner),
        )

    # ---- random rows -------------------------------------------------------------------------------

    def take(self, rows: Rows, out: Array, *, verify: bool) -> None:
        """Read single `rows` into `out` [rows, ...], in the order given."""
        if not len(rows):
            return
        mapped = self._mapped()
        chunk_rows = self.info.chunk_rows or 1
        chunk, inside = np.divmod(rows, chunk_rows)
        if verify:
            self._verify(mapped, np.unique(chunk))
        self._prefetch(
            mapped, chunk * self.info.stride + inside * self.info.row_bytes, self.info.row_bytes
        )
        out[...] = self._chunks(mapped)[chunk, inside]

    def copy(self, start: int, out: Array, *, verify: bool) -> None:
        """Read the run of ``len(out)`` rows from `start` into `out`."""
        n_rows, chunk_rows = len(out), self.info.chunk_rows or 1
        if not n_rows:
            return
        mapped = self._mapped()
        if verify:
            self._verify(
                mapped, np.arange(start // chunk_rows, (start + n_rows - 1) // chunk_rows + 1)
            )
        chunks = self._chunks(mapped)
        done = 0
        while done < n_rows:
            chunk, inside = divmod(start + done, chunk_rows)
            n = min(n_rows - done, chunk_rows - inside)
            out[done : done + n] = chunks[chunk, inside : inside + n]
            done += n

    def prefetch(self, start: int, n_rows: int) -> None:
        """Ask for a run of rows without waiting for it."""
        if not n_rows:
            return
        chunk_rows = self.info.chunk_rows or 1
        first, last = divmod(start, chunk_rows), divmod(start + n_rows - 1, chunk_rows)
        begin, end = (c * self.info.stride + i * self.info.row_bytes for c, i in (first, last))
        _will_need(self._mapped(), begin, end + self.info.row_bytes - begin)

    def _prefetch(self, mapped: mmap.mmap, places: Rows, n_bytes: int) -> None:
        """Ask for many runs at once, unless a sample of them is in memory already."""
        if n_bytes <= _SMALL_RUN_BYTES and self._in_memory(places, n_bytes):
            return
        for place in np.sort(places).tolist():
            _will_need(mapped, place, n_bytes)

    def _in_memory(self, places: Rows, n_bytes: int) -> bool:
        if not hasattr(os, "RWF_NOWAIT"):
            return False
        buffer = bytearray(n_bytes)
        sample = places[:: max(len(places) // _N_PROBES, 1)].tolist()
        with self._opened() as descriptor:
            try:
                return all(
                    os.preadv(descriptor, [buffer], at, os.RWF_NOWAIT) == n_bytes for at in sample
                )
            except OSError:  # not in memory, or a file system that cannot say
                return False

    def _verify(self, mapped: mmap.mmap, chunks: NDArray[np.int64]) -> None:
        """Check the checksums of chunks that were not checked before."""
        fresh = chunks[~self._verified[chunks]]
        if not len(fresh):
            return
        self._prefetch(mapped, fresh * self.info.stride, self.info.stride)
        data = np.frombuffer(mapped, dtype=np.uint8)
        for chunk in fresh.tolist():
            place = chunk * self.info.stride
            self._check(chunk, data[place : place + self.info.stride])

    def _check(self, chunk: int, data: Array) -> None:
        self._check_crc(chunk, data[:-CRC_BYTES], data[-CRC_BYTES:].tobytes())

    def _check_crc(self, chunk: int, data: Array, crc: bytes) -> None:
        if google_crc32c.value(data) != int.from_bytes(crc, "little"):
            chunk_rows = self.info.chunk_rows or 1
            span = (chunk * chunk_rows, min((chunk + 1) * chunk_rows, self.info.n_rows))
            raise ChunkDamaged(f"{self._part / self._path}: chunk {chunk}: checksum differs", span)
        self._verified[chunk] = True

    # ---- the whole array ---------------------------------------------------------------------------

    def stream(self, *, verify: bool) -> Iterator[tuple[int, Array]]:
        """Yield (first row, rows) chunk by chunk; the rows are overwritten by the next chunk."""
        info = self.info
        if not info.n_rows:
            return
        chunk_rows = info.chunk_rows or 1
        buffer = np.empty((chunk_rows, *info.shape[1:]), self.dtype)
        with self._opened() as descriptor:
            for chunk in range(info.n_chunks):
                self._read_chunk(descriptor, chunk, buffer, verify=verify)
                start = chunk * chunk_rows
                yield start, buffer[: info.n_rows - start]

    def read(self, out: Array, *, verify: bool) -> None:
        """Read the whole array into contiguous `out` of its dtype, with no copy between."""
        info = self.info
        if not info.n_rows:
            return
        chunk_rows = info.chunk_rows or 1
        n_whole = info.n_rows // chunk_rows
        with self._opened() as descriptor:
            for chunk in range(n_whole):
                start = chunk * chunk_rows
                self._read_chunk(descriptor, chunk, out[start : start + chunk_rows], verify=verify)
            if n_whole < info.n_chunks:
                last = np.empty((chunk_rows, *info.shape[1:]), self.dtype)
                self._read_chunk(descriptor, n_whole, last, verify=verify)
                out[n_whole * chunk_rows :] = last[: info.n_rows - n_whole * chunk_rows]

    def _read_chunk(self, descriptor: int, chunk: int, out: Array, *, verify: bool) -> None:
        crc = bytearray(CRC_BYTES)
        n_bytes = os.preadv(
            descriptor, [out.reshape(-1).view(np.uint8).data, crc], chunk * self.info.stride
        )
        if n_bytes != self.info.stride:
            raise ChunkDamaged(f"{self._part / self._path}: chunk {chunk}: cut short while reading")
        if verify:
            self._check_crc(chunk, out, bytes(crc))


def _will_need(mapped: mmap.mmap, place: int, n_bytes: int) -> None:
    begin = place - place % mmap.PAGESIZE
    mapped.madvise(mmap.MADV_WILLNEED, begin, place + n_bytes - begin)
