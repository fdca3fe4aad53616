"""Arrays that are no regular shard of ours: read by zarr-python, after a look at what they ask for."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_store.errors import MerStoreError, StoreDamagedError
from mer_store.store.commit import GROUP_FILE, file_facts
from mer_store.store.files_below import files_below
from mer_store.store.foreign import MAX_CHUNK_BYTES, Foreign, RefusedError
from mer_store.store.layout import MAX_SMALL_BYTES, reading
from mer_store.store.metadata import unknown_pieces
from mer_store.store.plain_file import read_small
from mer_store.store.record import FileFacts
from mer_store.store.shard import ArrayInfo
from mer_store.store.shard_file import Array, ChunkDamaged
from mer_store.store.shard_reader import ClipRun, Rows
from mer_store.strict_json import parse

_BLOCK_ROWS = 4096
#: What does not compress takes a little more than itself.
_PACKING_BYTES = 1 << 20


class ZarrReader:
    """Reads one array of a part by zarr-python; the same methods as `ShardReader`.

    Before the first read every file that the record names is checked, and that no chunk is without one.
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

        with self._refusing():
            foreign = self._metadata()
            self._check_files()
            self._check_chunks(foreign)
            return zarr.open_array(self._part / self._name, mode="r", zarr_format=3)

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Turn whatever zarr, numcodecs and their libraries say of bad bytes into damage of this array."""
        try:
            yield
        except (ChunkDamaged, MerStoreError, OSError, MemoryError):
            raise
        except RefusedError as error:
            raise ChunkDamaged(f"{self._part / self._name}: refused: {error}") from error
        except Exception as error:
            raise ChunkDamaged(
                f"{self._part / self._name}: cannot be decoded: {type(error).__name__}: {error}"
            ) from error

    def _check_files(self) -> None:
        for path, facts in self._files.items():
            where = self._part / path
            try:
                with reading(where):
                    found = file_facts(self._part, path, facts.n_bytes)
            except FileNotFoundError as error:
                raise ChunkDamaged(f"{where}: missing") from error
            except StoreDamagedError as error:
                raise ChunkDamaged(str(error)) from error
            if found != facts:
                raise ChunkDamaged(f"{where}: size or digest differs from the commit record")
        for inside, _ in files_below(self._part / self._name):
            if (path := f"{self._name}/{inside}") not in self._files:
                raise ChunkDamaged(f"{self._part / path}: not in the commit record")

    def _metadata(self) -> Foreign:
        path = f"{self._name}/{GROUP_FILE}"
        if path not in self._files:
            raise ChunkDamaged(f"{self._part / path}: not in the commit record")
        metadata = parse(read_small(self._part, MAX_SMALL_BYTES, path))
        if unknown := unknown_pieces(metadata):
            raise RefusedError(", ".join(unknown))
        return Foreign.of(metadata, self.info)

    def _check_chunks(self, foreign: Foreign) -> None:
        """Look at every chunk: zarr reads a missing one as zeros, and unpacks any to whatever size."""
        for chunk in foreign.chunk_paths():
            path = f"{self._name}/{chunk}"
            if path not in self._files:
                raise ChunkDamaged(f"{self._part / path}: not in the commit record")
            foreign.check(read_small(self._part, MAX_CHUNK_BYTES + _PACKING_BYTES, path))

    def take(self, rows: Rows, *, verify: bool, clips: Rows | None = None) -> Array:  # noqa: ARG002
        """Return single rows [rows, ...], in the order given."""
        wanted, back = np.unique(rows, return_inverse=True)
        with self._refusing():
            taken: Array = self._array.oindex[wanted][back]
        return taken

    def copy(self, start: int, out: Array, *, verify: bool, clip: int | None = None) -> None:  # noqa: ARG002
        """Read the run of ``len(out)`` rows from `start` into `out`."""
        if len(out):
            with self._refusing():
                out[...] = self._array[start : start + len(out)]

    def prefetch(self, runs: Sequence[ClipRun], *, verify: bool) -> None:
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
            with self._refusing():
                block = self._array[row : min(row + _BLOCK_ROWS, stop)]
            yield row, block

    def read(self, out: Array, start: int = 0, *, verify: bool) -> None:  # noqa: ARG002
        """Read the span of ``len(out)`` rows from `start` into `out`."""
        if len(out):
            with self._refusing():
                out[...] = self._array[start : start + len(out)]
