"""A feature set: everything in a store that has one spec, read by clip and layer."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mer_store.errors import StoreDamagedError, UsageError
from mer_store.layers import Layer
from mer_store.spec import Spec
from mer_store.store.apart import empty_apart
from mer_store.store.asked import ClipIds
from mer_store.store.commit import contradiction, read_record
from mer_store.store.index import Index
from mer_store.store.index_file import Signatures, load_index, save_index
from mer_store.store.layout import CACHE_FOLDER, PART_ID, Folders, reading
from mer_store.store.ledger import Ledger, Status
from mer_store.store.located import Located, locate
from mer_store.store.part_reader import OpenArray
from mer_store.store.reader import Empty, Reader
from mer_store.store.record import CommitRecord, misfit
from mer_store.store.tables import read_table

_N_LOOKS = 5


class _VanishedError(StoreDamagedError):
    """A record that was listed is not there any more."""


class FeatureSet:
    """Clips x layers of one spec.

    What is committed is looked up once, at the first question, and again at `refresh`.

    Parameters
    ----------
    path
        Its folder in the store.
    spec
        As its ``spec.json`` says.
    open_array
        Opens the arrays of parts; None opens them in `path`.
    """

    def __init__(self, path: Path, spec: Spec, open_array: OpenArray | None = None) -> None:
        self.path = path
        self.spec = spec
        self.name = spec.name
        self._open_array = open_array
        self._folders = Folders(path)
        self._loaded: Reader | None = None

    def __repr__(self) -> str:
        return f"FeatureSet({str(self.path)!r})"

    # ---- what there is -----------------------------------------------------------------------------

    @property
    def index(self) -> Index:
        """The merged ledgers of all parts."""
        return self._reader.index

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Layers that any part holds, numbers before names."""
        return self.index.layers

    @property
    def clip_ids(self) -> tuple[str, ...]:
        """Clips that have features at any layer, sorted."""
        return self.index.ok_ids

    def ledger(self, clip_ids: Sequence[str]) -> Ledger:
        """Return what became of each clip, aligned to `clip_ids`."""
        return self.index.ledger(clip_ids)

    def outcomes(self) -> Iterator[tuple[str, Status, str | None]]:
        """Yield (clip_id, status, reason) of every clip any part speaks of, sorted by id."""
        index = self.index
        ledger = index.ledger(np.sort(index.ids(np.arange(len(index.first)))).tolist())
        statuses = map(Status, ledger.status.tolist())
        yield from zip(ledger.clip_ids, statuses, ledger.reasons, strict=True)

    def part_ids(self) -> tuple[str, ...]:
        """Return the parts that are committed now, sorted."""
        return tuple(sorted(self._signatures()))

    def _signatures(self) -> Signatures:
        """Return size and times of every commit record there is now."""
        found = {}
        try:
            with reading(self._folders.commits), os.scandir(self._folders.commits) as entries:
                for entry in entries:
                    stem = entry.name.removesuffix(".json")
                    if PART_ID.fullmatch(stem) and entry.name != stem:
                        status = entry.stat(follow_symlinks=False)
                        found[stem] = status.st_size, status.st_mtime_ns, status.st_ctime_ns
        except FileNotFoundError:
            return {}
        return found

    def records(self) -> list[CommitRecord]:
        """Read every commit record, in the order of part ids.

        Raises
        ------
        StoreDamagedError
            A record cannot be read; the message names it.
        """
        return [self._record(part_id) for part_id in self.part_ids()]

    def _record(self, part_id: str) -> CommitRecord:
        record = read_record(self._folders, part_id)
        where = self._folders.commit(part_id)
        if record is None:
            raise _VanishedError(
                f"{where}: vanished while the store was read; run the command again"
            )
        if problem := misfit(record, self.spec) or contradiction(self._folders, record):
            raise StoreDamagedError(f"{where}: {problem}")
        return record

    def refresh(self) -> None:
        """Look again at what is committed."""
        self.forget()
        self._loaded = self._reader

    def forget(self) -> None:
        """Look again at what is committed when it is next asked for."""
        self._loaded = None

    @property
    def _reader(self) -> Reader:
        if self._loaded is None:
            self._loaded = Reader(self.spec, self._folders, self._find_index(), self._open_array)
        return self._loaded

    def _find_index(self) -> Index:
        """Look at what is committed; again where parts were removed meanwhile."""
        for _ in range(_N_LOOKS - 1):
            with suppress(_VanishedError):
                return self._index_now()
        return self._index_now()

    def _index_now(self) -> Index:
        """Return the index of what is committed now, extending the one on disk by what is new."""
        name = f"{self.spec.modality}-{self.name}.{os.geteuid()}.index"
        place = self.path.parents[2] / CACHE_FOLDER / name
        now = self._signatures()
        known, seen = load_index(place) or (None, {})
        if known is not None and seen == now:
            return known
        if not seen.items() <= now.items():
            known, seen = None, {}  # parts were removed or put anew
        index = Index.build(
            [self._record(part_id) for part_id in sorted(now.keys() - seen.keys())], known
        )
        save_index(index, now, place)
        return index

    # ---- features ----------------------------------------------------------------------------------

    def read(
        self,
        layers: Sequence[Layer],
        clip_ids: Sequence[str] | NDArray[np.str_] | None = None,
        dtype: DTypeLike | None = None,
        *,
        verify: bool = True,
    ) -> NDArray[Any]:
        """Read one row per clip and layer.

        Parameters
        ----------
        layers
            Which, in the order wanted.
        clip_ids
            Which, in the order wanted; None is `clip_ids` of the feature set.
        dtype
            None keeps what is stored: float16, or float32 where a part had to be widened.
        verify
            Check what is read the first time it is touched: the checksum of each clip or chunk.

        Returns
        -------
        array
            [clips, layers, D]

        Raises
        ------
        UsageError
            Some clips have not all the layers, or the features are at frame level.
        StoreDamagedError
            Bytes are missing or wrong.
        """
        if self.spec.level != "utterance":
            raise UsageError(
                f"{self.name}: features at frame level have no fixed length; use ragged()"
            )
        return self._reader.single_rows(layers, clip_ids, dtype, verify=verify)

    def ragged(
        self,
        layers: Sequence[Layer],
        clip_ids: Sequence[str] | None = None,
        dtype: DTypeLike | None = None,
        *,
        verify: bool = True,
    ) -> list[NDArray[Any]]:
        """Read all rows of each clip: one [T, layers, D] per clip. Parameters and errors as for `read`."""
        return self._reader.runs(layers, clip_ids, dtype, verify=verify)

    def padded(
        self,
        layers: Sequence[Layer],
        clip_ids: Sequence[str] | None = None,
        dtype: DTypeLike | None = None,
        *,
        empty: Empty = empty_apart,
        verify: bool = True,
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Read all rows of each clip into one array that `empty` makes; otherwise as `ragged`.

        Returns
        -------
        array
            [clips, T of the longest, layers, D]: zeros after a clip's last row.
        lengths
            [clips]
        """
        return self._reader.padded(layers, clip_ids, dtype, empty, verify=verify)

    def locate(self, layers: Sequence[Layer], clip_ids: ClipIds) -> Located:
        """Find which of many clips have all of `layers`, and read those as they lie on disk.

        The fastest way to all of a layer: clips that lack one are told apart, not an error.

        Raises
        ------
        UsageError
            No layers are asked for.
        """
        if not layers:
            raise UsageError(f"{self.name}: no layer asked for")
        return locate(self._reader, layers, clip_ids)

    def iter_parts(
        self, layers: Sequence[Layer], *, verify: bool = True
    ) -> Iterator[tuple[list[str], NDArray[np.int64], dict[Layer, NDArray[Any]]]]:
        """Yield all clips that have all of `layers`, in pieces that lie together on disk.

        Yields
        ------
        clip_ids
            Of the piece.
        offsets
            [clips + 1]: clip c owns the rows ``offsets[c]:offsets[c + 1]``.
        arrays
            [rows, D] per layer.
        """
        return self._reader.pieces(layers, verify=verify)

    def table(
        self, name: str, clip_ids: Sequence[str] | None = None, *, verify: bool = True
    ) -> list[dict[str, NDArray[Any]]]:
        """Read a side table, e.g. ``images``: column -> [n] or [n, k], for each clip."""
        return read_table(self._reader, name, clip_ids, verify=verify)

    def to_dask(self, layers: Layer | Sequence[Layer]) -> Any:
        """Return a dask array [rows, D] or [rows, layers, D]; see `mer_store.arrays.to_dask`."""
        return import_module("mer_store.arrays").to_dask(self, layers)

    def to_xarray(self, layers: Sequence[Layer]) -> Any:
        """Return an xarray dataset; see `mer_store.arrays.to_xarray`."""
        return import_module("mer_store.arrays").to_xarray(self, layers)
