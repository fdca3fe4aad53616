"""Arrays that another program wrote: what their metadata asks for and what their chunks unpack to.

A chunk of some kilobytes can unpack to gigabytes, and zarr allocates what the chunk claims, not what the
array needs. So every chunk's claim is read here before zarr decodes it.
"""

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from mer_store.store.metadata import COMPRESSORS
from mer_store.store.shard import CRC_BYTES, ArrayInfo

#: A chunk may unpack to so many bytes at most, and an array have so many.
MAX_CHUNK_BYTES = 1 << 28
MAX_CHUNKS = 1 << 16
_INDEX_ENTRY_BYTES = 16
_UNZIP_BYTES = 1 << 24
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_RUN = 1


class RefusedError(ValueError):
    """The array asks for something that is not done; the text says what."""


@dataclass(frozen=True)
class Foreign:
    """How an array that is no regular shard of ours is cut and packed."""

    info: ArrayInfo
    chunk_shape: tuple[int, ...]
    """Of what one file holds."""
    inner_shape: tuple[int, ...]
    """Of what is packed together: smaller than `chunk_shape` where files are shards."""
    codecs: tuple[str, ...]
    """Of what is packed together, in the order of packing."""
    index_at_end: bool | None
    """Where a shard has its index; None where files are no shards."""

    @classmethod
    def of(cls, metadata: dict[str, Any], info: ArrayInfo) -> "Foreign":
        """Read metadata in which nothing is unknown by name.

        Raises
        ------
        RefusedError
            It describes another array than `info`, or asks for something that is not done.
        """
        try:
            return cls._of(metadata, info)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise RefusedError(f"metadata that cannot be understood: {error!r}") from error

    @classmethod
    def _of(cls, metadata: dict[str, Any], info: ArrayInfo) -> "Foreign":
        if metadata["shape"] != list(info.shape) or metadata["data_type"] != info.dtype:
            raise RefusedError(f"expected {info.dtype} {info.shape}, got another array")
        if metadata["chunk_grid"]["name"] != "regular":
            raise RefusedError("a chunk grid that is not regular")
        keys = metadata["chunk_key_encoding"]
        if keys["name"] != "default" or keys.get("configuration", {}).get("separator", "/") != "/":
            raise RefusedError("chunk keys other than c/0/0")
        shape = _shape(metadata["chunk_grid"]["configuration"]["chunk_shape"], info)
        inner, codecs, at_end = shape, metadata["codecs"], None
        if codecs[0]["name"] == "sharding_indexed":
            sharding = codecs[0]["configuration"]
            inner, at_end = _shape(sharding["chunk_shape"], info), True
            at_end = sharding.get("index_location", "end") == "end"
            if len(codecs) > 1 or [codec["name"] for codec in sharding["index_codecs"]] != [
                "bytes",
                "crc32c",
            ]:
                raise RefusedError("codecs around shards, or an index that is not plain")
            codecs = sharding["codecs"]
        names = tuple(codec["name"] for codec in codecs)
        if "sharding_indexed" in names or len([n for n in names if n in COMPRESSORS]) > 1:
            raise RefusedError("shards in shards, or what is packed twice")
        if any(whole % part for whole, part in zip(shape, inner, strict=True)):
            raise RefusedError(f"chunks of {inner} in a shard of {shape}")
        return cls(info, shape, inner, names, at_end)

    def __post_init__(self) -> None:
        """Refuse chunks that are too large or too many."""
        n_bytes = math.prod(self.chunk_shape) * self._itemsize
        if n_bytes > MAX_CHUNK_BYTES:
            raise RefusedError(f"a chunk of {n_bytes} bytes")
        if math.prod(self._grid) > MAX_CHUNKS:
            raise RefusedError(f"{math.prod(self._grid)} chunks")

    @property
    def _itemsize(self) -> int:
        return np.dtype(self.info.dtype).itemsize

    @property
    def _grid(self) -> tuple[int, ...]:
        return tuple(
            -(-n // step) for n, step in zip(self.info.shape, self.chunk_shape, strict=True)
        )

    def chunk_paths(self) -> Iterator[str]:
        """Yield the paths, in the array, of all files that it must have."""
        for place in product(*map(range, self._grid)):
            yield "/".join(["c", *map(str, place)])

    def check(self, data: bytes) -> None:
        """Check that what a file holds unpacks to chunks of this array and no more. Raises `RefusedError`."""
        packing = [name for name in self.codecs if name in COMPRESSORS]
        pieces = [(0, len(data))] if self.index_at_end is None else self._inner_pieces(data)
        if not packing:
            return
        # A checksum made before packing is packed with the rest; one made after it stands at the end.
        cut = CRC_BYTES if self.codecs[-1] == "crc32c" else 0
        own = CRC_BYTES if "crc32c" in self.codecs[: self.codecs.index(packing[0])] else 0
        expected = math.prod(self.inner_shape) * self._itemsize + own
        for start, n_bytes in pieces:
            packed = data[start : start + n_bytes - cut]
            if (n_unpacked := unpacked_bytes(packing[0], packed, expected)) != expected:
                raise RefusedError(f"a chunk that unpacks to {n_unpacked} bytes, not {expected}")

    def _inner_pieces(self, data: bytes) -> list[tuple[int, int]]:
        """Return start and length of each inner chunk, as the shard's index says."""
        n = math.prod(self.chunk_shape) // math.prod(self.inner_shape)
        n_index = n * _INDEX_ENTRY_BYTES + CRC_BYTES
        if n_index > len(data):
            raise RefusedError("a shard shorter than its index")
        start = len(data) - n_index if self.index_at_end else 0
        index = np.frombuffer(data, "<u8", 2 * n, start).reshape(n, 2)
        starts, lengths = index[:, 0], index[:, 1]
        limit = np.uint64(len(data))
        if (starts > limit).any() or (lengths > limit - np.minimum(starts, limit)).any():
            raise RefusedError("inner chunks that are missing or lie outside their shard")
        return [(begin, length) for begin, length in index.tolist()]


def _shape(lengths: Any, info: ArrayInfo) -> tuple[int, ...]:
    shape = tuple(lengths)
    if len(shape) != len(info.shape) or not all(type(n) is int and n > 0 for n in shape):
        raise RefusedError("a chunk shape that is not one of whole numbers above 0")
    return shape


def unpacked_bytes(compressor: str, data: bytes, limit: int) -> int:
    """Return the bytes that a compressed chunk unpacks to, or some number above `limit`.

    Raises
    ------
    RefusedError
        It does not say, or is damaged.
    """
    if compressor == "gzip":
        return _gzip_bytes(data, limit)
    if compressor == "zstd":
        return _zstd_bytes(data)
    n_unpacked, _, n_packed = (int.from_bytes(data[at : at + 4], "little") for at in (4, 8, 12))
    if n_packed != len(data):
        raise RefusedError("a blosc chunk that is cut short")
    return n_unpacked


def _gzip_bytes(data: bytes, limit: int) -> int:
    """Unpack, keeping nothing: the length at a gzip member's end can be a lie."""
    n_bytes = 0
    while data and n_bytes <= limit:
        member = zlib.decompressobj(wbits=31)
        try:
            while not member.eof and n_bytes <= limit:
                block = member.decompress(data, _UNZIP_BYTES)
                n_bytes += len(block)
                data = member.unconsumed_tail
                if not block and not data and not member.eof:
                    raise RefusedError("a gzip chunk that is cut short")
        except zlib.error as error:
            raise RefusedError(f"a damaged gzip chunk: {error}") from error
        data = member.unused_data
    return n_bytes


def _zstd_bytes(data: bytes) -> int:
    """Read what the frame's header states, having made sure that there is no second frame.

    See RFC 8878, 3.1.1: magic, descriptor, window, dictionary, content size, blocks, checksum.
    """
    if data[:4] != _ZSTD_MAGIC or len(data) < 6:
        raise RefusedError("a zstd chunk of unknown kind")
    descriptor = data[4]
    single = descriptor >> 5 & 1
    at = 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3]
    n_size = (single, 2, 4, 8)[descriptor >> 6]
    if not n_size:
        raise RefusedError("a zstd chunk that does not state its size")
    n_bytes = int.from_bytes(data[at : at + n_size], "little") + (256 if n_size == 2 else 0)
    at += n_size
    is_last = 0
    while not is_last:
        if at + 3 > len(data):
            raise RefusedError("a zstd chunk that is cut short")
        header = int.from_bytes(data[at : at + 3], "little")
        is_last = header & 1
        at += 3 + (1 if header >> 1 & 3 == _ZSTD_RUN else header >> 3)
    if at + (CRC_BYTES if descriptor & 4 else 0) != len(data):
        raise RefusedError("a zstd chunk of several frames")
    return n_bytes
