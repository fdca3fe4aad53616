"""The bytes of an array: one Zarr shard of equal chunks, each with its checksum, and the shard's index."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

#: Rows of an inner chunk of a layer; arrays of few bytes a row (offsets, side tables) take more.
CHUNK_ROWS = 256
CHUNK_ROWS_NARROW = 4096
CRC_BYTES = 4

#: Types a part may hold: plain numbers, no strings, no objects.
DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ArrayInfo:
    """All that is needed to read an array without opening its metadata."""

    shape: tuple[int, ...]
    """[rows] or [rows, D]."""
    dtype: str
    chunk_rows: int | None
    """Rows of an inner chunk; None where the array is no single regular shard and zarr must read it."""

    @property
    def n_rows(self) -> int:
        """Rows of the array."""
        return self.shape[0]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        n_columns = self.shape[1] if len(self.shape) == 2 else 1
        return int(np.dtype(self.dtype).itemsize) * n_columns

    @property
    def chunk_bytes(self) -> int:
        """Bytes of an inner chunk without its checksum. The last one is padded to the same length."""
        return (self.chunk_rows or 0) * self.row_bytes

    @property
    def stride(self) -> int:
        """Bytes from one inner chunk to the next."""
        return self.chunk_bytes + CRC_BYTES

    @property
    def n_chunks(self) -> int:
        """Inner chunks in the shard."""
        return -(-self.n_rows // self.chunk_rows) if self.chunk_rows else 0

    @property
    def index_bytes(self) -> int:
        """Bytes of the shard's index at the end of the file."""
        return 16 * self.n_chunks + CRC_BYTES

    @property
    def shard_bytes(self) -> int:
        """Size of the shard's file; 0 where there are no rows and so no file."""
        return self.n_chunks * self.stride + self.index_bytes if self.n_chunks else 0


def shard_path(name: str, info: ArrayInfo) -> str:
    """Return the shard's path inside its part: ``18/c/0/0``."""
    return "/".join([name, "c", *("0" for _ in info.shape)])


def shard_index(info: ArrayInfo) -> bytes:
    """Return the index at a shard's end: offset and length of each inner chunk, then a checksum."""
    index = np.empty((info.n_chunks, 2), dtype="<u8")
    index[:, 0] = np.arange(info.n_chunks, dtype="<u8") * np.uint64(info.stride)
    index[:, 1] = info.stride
    data = index.tobytes()
    return data + crc_bytes(data)


def crc_of(data: bytes | NDArray[Any]) -> int:
    """Return the crc32c of some bytes."""
    return crc32c(data if isinstance(data, bytes) else data.data)


def crc_bytes(data: bytes | NDArray[Any]) -> bytes:
    """Return the crc32c of some bytes as Zarr stores it."""
    return crc_of(data).to_bytes(CRC_BYTES, "little")
