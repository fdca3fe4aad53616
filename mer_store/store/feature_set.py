"""A feature set: everything in a store that has one spec, read by clip and layer."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mer_store.errors import StoreDamagedError, UsageError
from mer_store.layers import Layer, describe_layers
from mer_store.spec import Spec
from mer_store.store.commit import read_record
from mer_store.store.gather import by_part, read_runs, read_single_rows
from mer_store.store.index import Index
from mer_store.store.index_file import load_index, save_index
from mer_store.store.layout import CACHE_FOLDER, PART_ID, Folders, reading
from mer_store.store.ledger import Ledger, Status
from mer_store.store.part_files import OFFSETS
from mer_store.store.part_reader import Parts
from mer_store.store.record import CommitRecord

_N_NAMED = 5


class FeatureSet:
    """Clips x layers of one spec.

    What is committed is looked up once, at the first question, and again at `refresh`.

    Parameters
    ----------
    path
        Its folder in the store.
    spec
        As its ``spec.json`` says.
    """

    def __init__(self, path: Path, spec: Spec) -> None:
        self.path = path
        self.spec = spec
        self.name = spec.name
        self._folders = Folders(path)
        self._loaded: tuple[Index, Parts] | None = None

    def __repr__(self) -> str:
        return f"FeatureSet({str(self.path)!r})"

    # ---- what there is -----------------------------------------------------------------------------

    @property
    def index(self) -> Index:
        """The merged ledgers of all parts."""
        return self._load()[0]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Layers that any part holds, numbers before names."""
        return self.index.layers

    @property
    def clip_ids(self) -> tuple[str, ...]:
        """Clips that have features at any layer, sorted."""
        index = self.index
        ids = index.ids(np.flatnonzero(index.status == Status.OK))
        return tuple(np.sort(ids).tolist())

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
        try:
            with reading(self._folders.commits), os.scandir(self._folders.commits) as entries:
                names = [entry.name for entry in entries]
        except FileNotFoundError:
            return ()
        stems = [name.removesuffix(".json") for name in names if name.endswith(".json")]
        return tuple(sorted(stem for stem in stems if PART_ID.fullmatch(stem)))

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
            raise StoreDamagedError(
                f"{where}: vanished while the store was read; run the command again"
            )
        if record.fingerprint != self.spec.fingerprint:
            raise StoreDamagedError(
                f"{where}: expected a part of spec {self.spec.fingerprint}, got {record.fingerprint}"
            )
        return record

    def refresh(self) -> None:
        """Look again at what is committed."""
        self.forget()
        self._load()

    def forget(self) -> None:
        """Look again at what is committed when it is next asked for."""
        self._loaded = None

    def _load(self) -> tuple[Index, Parts]:
        if self._loaded is None:
            index = self._find_index()
            self._loaded = index, Parts(self._folders, index)
        return self._loaded

    def _find_index(self) -> Index:
        """Return the index of what is committed now, extending the one on disk by what is new."""
        place = self.path.parents[2] / CACHE_FOLDER / f"{self.spec.modality}-{self.name}.index"
        part_ids = set(self.part_ids())
        known = load_index(place)
        if known is not None and known.part_ids == part_ids:
            return known
        if known is not None and not known.part_ids < part_ids:
            known = None  # parts were removed
        new = part_ids - known.part_ids if known is not None else part_ids
        index = Index.build([self._record(part_id) for part_id in sorted(new)], known)
        save_index(index, place)
        return index

    # ---- features ----------------------------------------------------------------------------------

    def read(
        self,
        layers: Sequence[Layer],
        clip_ids: Sequence[str] | None = None,
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
            Check the checksum of every chunk the first time it is touched.

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
        clip_ids = self.clip_ids if clip_ids is None else clip_ids
        index, parts = self._load()
        serving = self._serving(layers, clip_ids)
        stored, width = self._array_type(layers, serving)
        out = np.empty((len(clip_ids), len(layers), width), stored if dtype is None else dtype)
        for number, layer in enumerate(layers):
            read_single_rows(
                index, parts, str(layer), serving[number], out[:, number], verify=verify
            )
        return out

    def ragged(
        self,
        layers: Sequence[Layer],
        clip_ids: Sequence[str] | None = None,
        dtype: DTypeLike | None = None,
        *,
        verify: bool = True,
    ) -> list[NDArray[Any]]:
        """Read all rows of each clip: one [T, layers, D] per clip. Parameters and errors as for `read`."""
        clip_ids = self.clip_ids if clip_ids is None else clip_ids
        index, parts = self._load()
        serving = self._serving(layers, clip_ids)
        stored, width = self._array_type(layers, serving)
        lengths = index.rows["n_rows"][serving]
        if len(lengths) and (lengths != lengths[0]).any():
            clip = clip_ids[int(np.flatnonzero((lengths != lengths[0]).any(axis=0))[0])]
            raise StoreDamagedError(
                f"{self.path}: clip {clip}: layers differ in length; see `mer-store show`"
            )
        out_type = stored if dtype is None else dtype
        outs = [np.empty((n, len(layers), width), out_type) for n in lengths[0].tolist()]
        read_runs(index, parts, [str(layer) for layer in layers], serving, outs, verify=verify)
        return outs

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
        index, _ = self._load()
        columns = np.stack([index.column(str(layer)) for layer in layers])
        numbers = np.flatnonzero((columns >= 0).all(axis=0))
        serving = columns[:, numbers]
        where = index.rows["part"][serving]
        _, group = np.unique(where, axis=1, return_inverse=True)
        for _, positions in by_part(group.reshape(-1).astype(np.int32)):
            ordered = positions[
                np.argsort(index.rows["row_start"][serving[0, positions]], kind="stable")
            ]
            clip_ids = index.ids(numbers[ordered]).tolist()
            offsets = np.zeros(len(ordered) + 1, dtype=np.int64)
            np.cumsum(index.rows["n_rows"][serving[0, ordered]], out=offsets[1:])
            arrays = {
                layer: self._joined(str(layer), serving[number, ordered], offsets, verify=verify)
                for number, layer in enumerate(layers)
            }
            yield clip_ids, offsets, arrays

    def _joined(
        self, name: str, serving: NDArray[np.int32], offsets: NDArray[np.int64], *, verify: bool
    ) -> NDArray[Any]:
        """Read the runs of rows of one array of one part into [rows, D]."""
        index, parts = self._load()
        part = int(index.rows["part"][serving[0]])
        reader = parts.array(part, name)
        out = np.empty((int(offsets[-1]), *reader.info.shape[1:]), reader.dtype)
        with parts.naming(part, name):
            if len(out) == reader.info.n_rows:
                reader.read(out, verify=verify)
            else:
                starts = index.rows["row_start"][serving].tolist()
                for start, begin, end in zip(starts, offsets[:-1], offsets[1:], strict=True):
                    reader.copy(start, out[begin:end], verify=verify)
        return out

    def table(
        self, name: str, clip_ids: Sequence[str] | None = None, *, verify: bool = True
    ) -> list[dict[str, NDArray[Any]]]:
        """Read a side table, e.g. ``images``: column -> [n] or [n, k], for each clip."""
        clip_ids = self.clip_ids if clip_ids is None else clip_ids
        index, parts = self._load()
        if f"{name}/" not in index.names:
            there = ", ".join(n[:-1] for n in index.names if n.endswith("/")) or "none"
            raise UsageError(f"{self.name}: no table {name!r}; there is: {there}")
        (serving,) = self._serving([f"{name}/"], clip_ids)
        tables: list[dict[str, NDArray[Any]]] = [{} for _ in clip_ids]
        for part, positions in by_part(index.rows["part"][serving]):
            offsets = parts.offsets(part, f"{name}/", verify=verify)
            clip_rows = index.rows["clip_row"][serving[positions]]
            columns = self._columns(part, name)
            for position, clip_row in zip(positions.tolist(), clip_rows.tolist(), strict=True):
                start, end = offsets[clip_row], offsets[clip_row + 1]
                for column in columns:
                    reader = parts.array(part, f"{name}/{column}")
                    values = np.empty((end - start, *reader.info.shape[1:]), reader.dtype)
                    with parts.naming(part, f"{name}/"):
                        reader.copy(int(start), values, verify=verify)
                    tables[position][column] = values
        return tables

    def _columns(self, part: int, table: str) -> list[str]:
        arrays: Mapping[str, Any] = self.index.parts[part].arrays
        names = [name.removeprefix(f"{table}/") for name in arrays if name.startswith(f"{table}/")]
        return [name for name in names if name != OFFSETS]

    def _serving(self, names: Sequence[Layer], clip_ids: Sequence[str]) -> NDArray[np.int32]:
        """Return [names, clips]: rows of the index that serve each layer of each clip.

        Raises
        ------
        UsageError
            Some clips have not all of them.
        """
        index = self.index
        if not names:
            raise UsageError(
                f"{self.name}: no layer asked for; there are {describe_layers(self.layers)}"
            )
        number = index.find(clip_ids)
        serving = (
            np.stack([index.column(str(name))[number] for name in names])
            if len(index.first)
            else (np.full((len(names), len(number)), -1, dtype=np.int32))
        )
        serving[:, number < 0] = -1
        lacking = np.flatnonzero((serving < 0).any(axis=0))
        if len(lacking):
            raise UsageError(
                self._what_is_missing(names, [clip_ids[n] for n in lacking.tolist()], len(clip_ids))
            )
        return serving

    def _what_is_missing(self, names: Sequence[Layer], lacking: Sequence[str], n_asked: int) -> str:
        named = ", ".join(lacking[:_N_NAMED])
        more = f" and {len(lacking) - _N_NAMED} more" if len(lacking) > _N_NAMED else ""
        wanted = describe_layers(names)
        option = wanted.replace(" ", "")
        return (
            f"{self.name}: {len(lacking)} of {n_asked} clips lack some of the layers {wanted} "
            f"(stored: {describe_layers(self.layers)}): {named}{more}. Run `mer-store extract "
            f"--modality {self.spec.modality} --level {self.spec.level} --layers {option}`, "
            f"or `mer-store show {lacking[0]}` to see why"
        )

    def _array_type(
        self, layers: Sequence[Layer], serving: NDArray[np.int32]
    ) -> tuple[np.dtype[Any], int]:
        """Return the type that holds all that is served, and its one width."""
        index = self.index
        infos = {
            (str(layer), int(part)): index.parts[part].arrays[str(layer)]
            for layer, rows in zip(layers, serving, strict=True)
            for part in np.unique(index.rows["part"][rows])
        }
        widths = {name: info.shape[1] for (name, _), info in infos.items()}
        if len({info.shape[1] for info in infos.values()}) > 1:
            raise UsageError(
                f"{self.name}: layers differ in width ({widths}); read them one by one"
            )
        dtypes = [np.dtype(info.dtype) for info in infos.values()]
        stored = np.result_type(*dtypes) if dtypes else np.dtype(self.spec.stored_dtype)
        return stored, next(iter(widths.values()), 0)
