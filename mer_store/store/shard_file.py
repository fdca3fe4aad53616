"""The file of one regular shard: opened once it is the size it should be, mapped, or read chunk by chunk."""

import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_store.errors import StoreDamagedError
from mer_store.store.layout import reading
from mer_store.store.mappings import MAPPINGS, Mapping
from mer_store.store.plain_file import open_inside
from mer_store.store.shard import CRC_BYTES, ArrayInfo, shard_index, shard_path

Array = NDArray[Any]


class ChunkDamaged(Exception):  # noqa: N818 - caught where the clips' names are known
    """Bytes of an array are missing or wrong. `rows` is the span affected, None where it is all of them."""

    def __init__(self, text: str, rows: tuple[int, int] | None = None) -> None:
        super().__init__(text)
        self.rows = rows


class ShardFile:
    """Gives a shard's bytes.

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
        self.mapping: Mapping | None = None
        self.last_used = 0
        self._part, self._inside = part, shard_path(name, info)
        self._row_bytes, self._stride = info.row_bytes, info.stride
        self._read = bytearray(info.n_chunks)  # of every chunk whether it was
        self._index_checked = False

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self._part / self._inside

    @contextmanager
    def opened(self) -> Iterator[int]:
        """Open it, and check its size and, once, its index.

        Raises
        ------
        ChunkDamaged
            It is not there, no plain file, or not what the record says.
        """
        try:
            with reading(self.path):
                descriptor = open_inside(self._part, self._inside)
        except FileNotFoundError as error:
            raise ChunkDamaged(f"{self.path}: missing") from error
        except StoreDamagedError as error:
            raise ChunkDamaged(str(error)) from error
        try:
            n_bytes = os.fstat(descriptor).st_size
            if n_bytes != self.info.shard_bytes:
                raise ChunkDamaged(
                    f"{self.path}: expected {self.info.shard_bytes} bytes, got {n_bytes}"
                )
            if not self._index_checked:
                place = self.info.n_chunks * self._stride
                if os.pread(descriptor, self.info.index_bytes, place) != shard_index(self.info):
                    raise ChunkDamaged(f"{self.path}: the shard's index is wrong")
                self._index_checked = True
            yield descriptor
        finally:
            os.close(descriptor)

    def mapped(self) -> Mapping:
        """Return it mapped into memory."""
        mapping = self.mapping
        if mapping is None:
            with self.opened() as descriptor:
                memory = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
                mapping = Mapping(memory, self._chunks_of(memory), os.dup(descriptor))
            self.mapping, self.last_used = mapping, next(MAPPINGS.clock)
            MAPPINGS.opened(self)
        self.last_used = next(MAPPINGS.clock)
        return mapping

    def _chunks_of(self, memory: mmap.mmap) -> Array:
        """Return the shard as [chunks, chunk rows, ...], stepping over the checksums."""
        info, itemsize = self.info, self.dtype.itemsize
        inner = (self._row_bytes,) if len(info.shape) == 1 else (self._row_bytes, itemsize)
        return np.ndarray(
            (info.n_chunks, info.chunk_rows or 1, *info.shape[1:]),
            self.dtype,
            buffer=memory,
            strides=(self._stride, *inner),
        )

    @contextmanager
    def source(self, first: int, end: int) -> Iterator[Mapping | int]:
        """Give what `read_chunks` reads chunks from `first` to `end` from: a descriptor, or the file mapped.

        Read calls are faster once. Again, where all is still in memory, it is copied out of the mapped file
        faster than by calls that step over the checksums between chunks.
        """
        if first >= end:
            yield -1
        elif self._was_read(first, end) and self._is_in_memory(first, end):
            yield self.mapped()
        else:
            with self.opened() as descriptor:
                yield descriptor
            self._read[first:end] = bytes([1]) * (end - first)

    def _was_read(self, first: int, end: int) -> bool:
        return self._read.find(0, first, end) < 0

    def _is_in_memory(self, first: int, end: int) -> bool:
        mapping, places = self.mapped(), np.arange(first, end) * self._stride
        return mapping.seems_to_hold(places) and mapping.holds([end * self._stride - 1])

    def read_chunks(
        self, source: Mapping | int, first: int, chunks: Sequence[Array]
    ) -> list[bytes]:
        """Read neighbouring chunks, each into an array [bytes]; return their checksums.

        Raises
        ------
        ChunkDamaged
            The file has become shorter.
        """
        begin, n_bytes = first * self._stride, self.info.chunk_bytes
        if isinstance(source, Mapping):
            begins = range(begin, begin + len(chunks) * self._stride, self._stride)
            data = np.frombuffer(source.memory, dtype=np.uint8)
            for chunk, at in zip(chunks, begins, strict=True):
                chunk[:] = data[at : at + n_bytes]
            return [source.memory[at + n_bytes : at + self._stride] for at in begins]
        checksums = [bytearray(CRC_BYTES) for _ in chunks]
        pieces: list[memoryview | bytearray] = []
        for chunk, checksum in zip(chunks, checksums, strict=True):
            pieces += [chunk.data, checksum]
        if os.preadv(source, pieces, begin) != len(chunks) * self._stride:
            raise ChunkDamaged(f"{self.path}: chunk {first}: cut short while reading")
        return list(map(bytes, checksums))
