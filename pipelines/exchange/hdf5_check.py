"""An HDF5 file that anyone may have written, held against rules before any of its data is read.

Only hard links to groups and datasets that lie in the file itself, in checksummed chunks that are not
compressed: what is read is never more than the file's size. Nothing in it names other files or runs code.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mer_store.errors import StoreDamagedError, UsageError
from mer_store.store.shard import DTYPES

MAX_ATTRIBUTE_BYTES = 1 << 16
MAX_MEMBERS = 1 << 10
MAX_CHUNK_BYTES = 1 << 25
MAX_TEXT_BYTES = 1 << 12
#: What h5py raises where the file's structure is broken.
BROKEN = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError)


class CheckedFile:
    """A file opened for reading, one checked piece after the other.

    Parameters
    ----------
    path
        Of the file.
    file
        As h5py opened it.
    """

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path = path
        self._file = file
        self._n_left = path.stat().st_size

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator["CheckedFile"]:
        """Open a file.

        Raises
        ------
        UsageError
            It is no HDF5 file.
        """
        if not stat.S_ISREG(path.stat().st_mode) or not os.access(path, os.R_OK):
            raise UsageError(f"{path}: expected an HDF5 file that this user may read")
        try:
            file = h5py.File(path, "r", locking="best-effort")
        except BROKEN as error:
            raise UsageError(f"{path}: not an HDF5 file, or cut short: {error}") from error
        with file:
            yield cls(path, file)

    def damage(self, name: str, problem: object) -> StoreDamagedError:
        """Return the error that names a piece of the file."""
        return StoreDamagedError(
            f"{self.path}: {name or '/'}: {problem}. The file is damaged or not from `mer-store export`: "
            f"get it again"
        )

    @contextmanager
    def naming(self, name: str) -> Iterator[None]:
        """Turn what h5py raises into an error that names the piece."""
        try:
            yield
        except BROKEN as error:
            raise self.damage(name, error) from error

    def members(self, name: str) -> list[str]:
        """Return what a group holds, sorted.

        Raises
        ------
        StoreDamagedError
            It is no group, or has more than `MAX_MEMBERS`.
        """
        with self.naming(name):
            group = self._get(name, h5py.Group)
            if len(group) > MAX_MEMBERS:
                raise self.damage(name, f"{len(group)} members, more than {MAX_MEMBERS}")
            return sorted(group)

    def _get(self, name: str, kind: type) -> Any:
        """Follow hard links, none other, to a group or dataset."""
        here: Any = self._file
        for piece in filter(None, name.split("/")):
            # Not `piece in here`: that would open what an external link names.
            if not isinstance(here, h5py.Group):
                raise self.damage(name, "not there")
            if here.id.links.get_info(piece.encode()).type != h5py.h5l.TYPE_HARD:
                raise self.damage(name, "a soft or external link; expected data in the file itself")
            here = here[piece]
        if not isinstance(here, kind):
            raise self.damage(name, f"expected a {kind.__name__.lower()}")
        return here

    def attribute(self, name: str, key: str) -> bytes | int:
        """Return an attribute: one text of fixed length, or one whole number."""
        with self.naming(f"{name}@{key}"):
            group = self._get(name, h5py.Group)
            if key not in group.attrs:
                raise self.damage(name, f"no attribute {key}")
            found = group.attrs.get_id(key)
            n_bytes = found.get_type().get_size()
            is_text = found.dtype.kind == "S"
            if found.shape != () or not (is_text or found.dtype.kind in "iu"):
                raise self.damage(name, f"attribute {key}: expected a text or a number")
            if n_bytes > MAX_ATTRIBUTE_BYTES:
                raise self.damage(name, f"attribute {key}: {n_bytes} bytes")
            value = group.attrs[key]
            return bytes(value) if is_text else int(value)

    def dataset(self, name: str, row_shape: tuple[int | None, ...], kinds: str) -> h5py.Dataset:
        """Return a dataset that may be read row by row.

        Parameters
        ----------
        name
            Its path.
        row_shape
            Expected shape of a row; None is any width.
        kinds
            Kinds of type it may be of: ``S`` (text of fixed length) or kinds of numbers.

        Raises
        ------
        StoreDamagedError
            It is not there, of another type or shape, not in plain checksummed chunks, or the file
            is too small for what it claims to hold.
        """
        with self.naming(name):
            dataset = self._get(name, h5py.Dataset)
            self._check_type(name, dataset, kinds)
            shape = dataset.shape
            if shape is None or len(shape) != 1 + len(row_shape):
                raise self.damage(name, f"shape {shape}: expected {1 + len(row_shape)} dimensions")
            for length, expected in zip(shape[1:], row_shape, strict=True):
                if length < 1 or (expected is not None and length != expected):
                    raise self.damage(name, f"shape {shape}: expected rows of {row_shape}")
            if shape[0]:
                self._check_storage(name, dataset)
            return dataset

    def n_dimensions(self, name: str) -> int:
        """Return how many dimensions a dataset has."""
        with self.naming(name):
            return len(self._get(name, h5py.Dataset).shape or ())

    def _check_type(self, name: str, dataset: h5py.Dataset, kinds: str) -> None:
        dtype = dataset.dtype
        plain = dtype.kind == "S" or (dtype.name in DTYPES and not dtype.metadata)
        if dtype.kind not in kinds or not plain or dtype.subdtype or dtype.names:
            raise self.damage(name, f"type {dtype}: expected plain numbers or text of fixed length")
        if dtype.kind == "S" and not 1 <= dtype.itemsize <= MAX_TEXT_BYTES:
            raise self.damage(name, f"texts of {dtype.itemsize} bytes")

    def _check_storage(self, name: str, dataset: h5py.Dataset) -> None:
        """Refuse data outside of the file, all filters but the checksum, and huge chunks."""
        settings = dataset.id.get_create_plist()
        filters = [settings.get_filter(n)[0] for n in range(settings.get_nfilters())]
        if (
            settings.get_layout() != h5py.h5d.CHUNKED
            or settings.get_external_count()
            or filters != [h5py.h5z.FILTER_FLETCHER32]
        ):
            raise self.damage(
                name,
                "expected chunks in this file with a Fletcher-32 checksum and no compression, as "
                "`mer-store export` writes them",
            )
        chunk_bytes = int(np.prod(settings.get_chunk(), dtype=object)) * dataset.dtype.itemsize
        if chunk_bytes > MAX_CHUNK_BYTES:
            raise self.damage(name, f"chunks of {chunk_bytes} bytes, more than {MAX_CHUNK_BYTES}")

    def charge(self, name: str, dataset: h5py.Dataset, n_rows: int) -> None:
        """Count `n_rows` of a dataset against the size of the file.

        Raises
        ------
        StoreDamagedError
            The file has not so many bytes: rows were never written, or are the same bytes again and again.
        """
        with self.naming(name):
            row_bytes = dataset.dtype.itemsize * int(np.prod(dataset.shape[1:], dtype=object))
            n_bytes = n_rows * row_bytes
            self._n_left -= n_bytes
            if n_bytes > dataset.id.get_storage_size() or self._n_left < 0:
                raise self.damage(name, f"claims {n_rows} rows, more than the file has bytes for")

    def column(
        self, name: str, kinds: str, n_rows: int | None = None, row_shape: tuple[int, ...] = ()
    ) -> NDArray[Any]:
        """Read all of a small dataset; `n_rows` is how many rows it must have."""
        dataset = self.dataset(name, row_shape, kinds)
        if n_rows is not None and len(dataset) != n_rows:
            raise self.damage(name, f"{len(dataset)} rows, expected {n_rows}")
        self.charge(name, dataset, len(dataset))
        return self.rows(name, dataset, 0, len(dataset))

    def rows(self, name: str, dataset: h5py.Dataset, start: int, stop: int) -> NDArray[Any]:
        """Read a run of rows; every chunk's checksum is checked."""
        with self.naming(f"{name}[{start}:{stop}]"):
            found: NDArray[Any] = dataset[start:stop]
            return found.astype(found.dtype.newbyteorder("="), copy=False)
