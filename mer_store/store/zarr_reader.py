"""Arrays that are no regular shard of ours: read by zarr-python, after a look at what they ask for."""

import json
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_store.store.commit import GROUP_FILE, file_facts
from mer_store.store.layout import is_safe_path, open_inside, reading
from mer_store.store.metadata import unknown_pieces
from mer_store.store.record import FileFacts
from mer_store.store.shard import ArrayInfo
from mer_store.store.shard_reader import Array, ChunkDamaged, Rows

#: A chunk may unpack to so many bytes at most.
MAX_CHUNK_BYTES = 1 << 30
_BLOCK_ROWS = 4096


class ZarrReader:
    """Reads one array of a part by zarr-python; the same methods as `ShardReader`.

    zarr reads a missing chunk as zeros, so every file the record names is checked before the first read.
    """

    def __init__(
        self, part: Path, name: str, info: ArrayInfo, files: Mapping[str, FileFacts]
    ) -> None:
        self.info = info
        self.dtype = np.dtype(info.dtype).newbyteorder("<")
        self._part = part
        self._name = name
        self._files = {path: facts for path, facts in files.items() if path.startswith(f"{name}/")}

    @cached_property
    def _array(self) -> Any:
        import zarr

        self._check_files()
        self._check_metadata()
        array = zarr.open_array(self._part / self._name, mode="r", zarr_format=3)
        if array.shape != self.info.shape or array.dtype != self.dtype:
            raise ChunkDamaged(
                f"{self._part / self._name}: expected {self.info.dtype} {self.info.shape}, "
                f"got {array.dtype} {array.shape}"
            )
        return array

    def _check_files(self) -> None:
        for path, facts in self._files.items():
            where = self._part / path
            try:
                with reading(where):
                    found = file_facts(self._part, path)
            except FileNotFoundError as error:
                raise ChunkDamaged(f"{where}: missing") from error
            if found != facts:
                raise ChunkDamaged(f"{where}: size or digest differs from the commit record")
        for folder, folders, names in os.walk(self._part / self._name):
            inside = Path(folder).relative_to(self._part)
            links = [name for name in folders if (Path(folder) / name).is_symlink()]
            for name in [*names, *links]:
                if str(inside / name) not in self._files:
                    raise ChunkDamaged(f"{self._part / inside / name}: not in the commit record")

    def _check_metadata(self) -> None:
        path = f"{self._name}/{GROUP_FILE}"
        if path not in self._files or not is_safe_path(path):
            raise ChunkDamaged(f"{self._part / path}: not in the commit record")
        with os.fdopen(open_inside(self._part, path), "rb") as file:
            metadata = json.loads(file.read())
        if unknown := unknown_pieces(metadata):
            raise ChunkDamaged(f"{self._part / path}: refused: {', '.join(unknown)}")
        shape = metadata["chunk_grid"]["configuration"]["chunk_shape"]
        n_bytes = int(np.prod(shape, dtype=object)) * self.dtype.itemsize
        if n_bytes > MAX_CHUNK_BYTES:
            raise ChunkDamaged(f"{self._part / path}: refused: a chunk of {n_bytes} bytes")

    def take(self, rows: Rows, *, verify: bool) -> Array:  # noqa: ARG002
        """Return single rows [rows, ...], in the order given."""
        wanted, back = np.unique(rows, return_inverse=True)
        taken: Array = self._array.oindex[wanted][back]
        return taken

    def copy(self, start: int, out: Array, *, verify: bool) -> None:  # noqa: ARG002
        """Read the run of ``len(out)`` rows from `start` into `out`."""
        if len(out):
            out[...] = self._array[start : start + len(out)]

    def prefetch(self, start: int, n_rows: int, *, verify: bool) -> None:
        """Do nothing: zarr reads when it is asked."""

    def spans(self, n_bytes: int) -> list[tuple[int, int]]:  # noqa: ARG002
        """Return all rows as one run: how chunks are cut is zarr's to know."""
        return [(0, self.info.n_rows)] if self.info.n_rows else []

    def stream(
        self,
        start: int = 0,
        stop: int | None = None,
        *,
        verify: bool,  # noqa: ARG002
    ) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield (first row, rows) of a span block by block."""
        stop = self.info.n_rows if stop is None else stop
        for row in range(start, stop, _BLOCK_ROWS):
            yield row, self._array[row : min(row + _BLOCK_ROWS, stop)]

    def read(self, out: Array, start: int = 0, *, verify: bool) -> None:  # noqa: ARG002
        """Read the span of ``len(out)`` rows from `start` into `out`."""
        if len(out):
            out[...] = self._array[start : start + len(out)]
