"""Reading features of one feature set, as it was committed when the reader was made."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mer_store.errors import StoreDamagedError, UsageError
from mer_store.layers import Layer, describe_layers
from mer_store.spec import Spec
from mer_store.store.apart import empty_apart
from mer_store.store.gather import Places, by_part, distinct, read_runs, read_single_rows, take_rows
from mer_store.store.index import Index
from mer_store.store.layout import Folders
from mer_store.store.part_reader import OpenArray, Parts

Serving = NDArray[np.int32]
"""[names, clips]: the row of the index that serves each layer of each clip."""
Piece = tuple[list[str], NDArray[np.int64], dict[Layer, NDArray[Any]]]
Empty = Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]]
"""Makes an array of any values."""

_N_NAMED = 5


class Reader:
    """Finds the rows of clips by the index and reads them from the parts."""

    def __init__(
        self, spec: Spec, folders: Folders, index: Index, open_array: OpenArray | None = None
    ) -> None:
        self.spec = spec
        self.index = index
        self.parts = Parts(folders, index, open_array)

    def single_rows(
        self,
        layers: Sequence[Layer],
        clip_ids: Sequence[str] | NDArray[np.str_] | None,
        dtype: DTypeLike | None,
        *,
        verify: bool,
    ) -> NDArray[Any]:
        """Return [clips, layers, D]: the one row of each clip."""
        return self.rows_at(layers, self.serving(layers, clip_ids), dtype, verify=verify)

    def rows_at(
        self, layers: Sequence[Layer], serving: Serving, dtype: DTypeLike | None, *, verify: bool
    ) -> NDArray[Any]:
        """Return [clips, layers, D]: the rows that `serving` points at."""
        fields = ("part", "row_start", "clip_row")
        where, starts, clips = (self.index.of_rows(name, serving) for name in fields)
        places = [Places(*each) for each in zip(where, starts, clips, strict=True)]
        stored, width = self._array_type(layers, where)
        if len(layers) == 1 and dtype in (None, stored):
            taken = take_rows(self.parts, str(layers[0]), places[0], verify=verify)
            if taken is not None:
                return taken[:, np.newaxis]
        out = empty_apart(
            (serving.shape[1], len(layers), width), stored if dtype is None else dtype
        )
        for number, layer in enumerate(layers):
            read_single_rows(self.parts, str(layer), places[number], out[:, number], verify=verify)
        return out

    def runs(
        self,
        layers: Sequence[Layer],
        clip_ids: Sequence[str] | None,
        dtype: DTypeLike | None,
        *,
        verify: bool,
    ) -> list[NDArray[Any]]:
        """Return one [T, layers, D] per clip."""
        serving = self.serving(layers, clip_ids)
        stored, width = self._array_type(layers, self.index.of_rows("part", serving))
        out_type = stored if dtype is None else dtype
        shapes = [(n, len(layers), width) for n in self._lengths(serving).tolist()]
        outs = [empty_apart(shape, out_type) for shape in shapes]
        self._read_runs(layers, serving, outs, verify=verify)
        return outs

    def padded(
        self,
        layers: Sequence[Layer],
        clip_ids: Sequence[str] | None,
        dtype: DTypeLike | None,
        empty: Empty,
        *,
        verify: bool,
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return [clips, T, layers, D] of `empty`, filled, and [clips]: rows of each."""
        serving = self.serving(layers, clip_ids)
        stored, width = self._array_type(layers, self.index.of_rows("part", serving))
        lengths = self._lengths(serving)
        shape = (len(lengths), int(lengths.max(initial=0)), len(layers), width)
        block = empty(shape, np.dtype(stored if dtype is None else dtype))
        outs = [rows[:n] for rows, n in zip(block, lengths.tolist(), strict=True)]
        for rows, n in zip(block, lengths.tolist(), strict=True):
            rows[n:] = 0
        self._read_runs(layers, serving, outs, verify=verify)
        return block, lengths

    def _read_runs(
        self,
        layers: Sequence[Layer],
        serving: Serving,
        outs: Sequence[NDArray[Any]],
        *,
        verify: bool,
    ) -> None:
        names = [str(layer) for layer in layers]
        read_runs(self.index, self.parts, names, serving, outs, verify=verify)

    def pieces(self, layers: Sequence[Layer], *, verify: bool) -> Iterator[Piece]:
        """Yield clip ids, offsets and arrays of clips whose layers lie in the same parts."""
        index = self.index
        columns = np.stack([index.column(str(layer)) for layer in layers])
        numbers = np.flatnonzero((columns >= 0).all(axis=0))
        serving = columns[:, numbers]
        where = index.of_rows("part", serving)
        _, group = np.unique(where, axis=1, return_inverse=True)
        for _, positions in by_part(group.reshape(-1)):
            ordered = positions[np.argsort(index.rows["clip_row"][serving[0, positions]])]
            clip_ids = index.ids(numbers[ordered]).tolist()
            lengths = self._lengths(serving[:, ordered])
            offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
            arrays = {
                layer: self._joined(str(layer), serving[number, ordered], offsets, verify=verify)
                for number, layer in enumerate(layers)
            }
            yield clip_ids, offsets, arrays

    def _joined(
        self, name: str, serving: NDArray[np.int32], offsets: NDArray[np.int64], *, verify: bool
    ) -> NDArray[Any]:
        """Read the runs of rows of one array of one part into [rows, D]."""
        part = int(self.index.rows["part"][serving[0]])
        starts = self.index.of_rows("row_start", serving)
        reader = self.parts.array(part, name)
        out = empty_apart((int(offsets[-1]), *reader.info.shape[1:]), reader.dtype)
        with self.parts.naming(part, name):
            if len(out) == reader.info.n_rows and (starts == offsets[:-1]).all():
                reader.read(out, verify=verify)
                return out
            for start, begin, end in zip(starts.tolist(), offsets[:-1], offsets[1:], strict=True):
                reader.copy(start, out[begin:end], verify=verify)
        return out

    def serving(
        self, names: Sequence[Layer], clip_ids: Sequence[str] | NDArray[np.str_] | None
    ) -> Serving:
        """Find what serves each name of each clip; no clip ids are all clips that have features, sorted.

        Raises
        ------
        UsageError
            Some clips have not all of them.
        """
        index = self.index
        if not len(names):
            raise UsageError(
                f"{self.spec.name}: no layer asked for; there are {describe_layers(index.layers)}"
            )
        number = index.ok_clips if clip_ids is None else index.find(clip_ids)
        serving = np.full((len(names), len(number)), -1, dtype=np.int32)
        there = number >= 0
        every = slice(None) if there.all() else there
        for row, name in enumerate(names):
            serving[row, every] = index.column(str(name))[number[every]]
        lacking = np.flatnonzero((serving < 0).any(axis=0))
        if len(lacking):
            ids = index.ok_ids if clip_ids is None else clip_ids
            lacking_ids = [str(ids[n]) for n in lacking.tolist()]
            raise UsageError(self._what_is_missing(names, lacking_ids, len(ids)))
        return serving

    def _what_is_missing(self, names: Sequence[Layer], lacking: Sequence[str], n_asked: int) -> str:
        named = ", ".join(lacking[:_N_NAMED])
        more = f" and {len(lacking) - _N_NAMED} more" if len(lacking) > _N_NAMED else ""
        wanted = describe_layers(names)
        return (
            f"{self.spec.name}: {len(lacking)} of {n_asked} clips lack some of the layers {wanted} "
            f"(stored: {describe_layers(self.index.layers)}): {named}{more}. Run `mer-store extract "
            f"--modality {self.spec.modality} --level {self.spec.level} --layers "
            f"{wanted.replace(' ', '')}`, or `mer-store show {lacking[0]}` to see why"
        )

    def _lengths(self, serving: Serving) -> NDArray[np.int64]:
        """Return [clips]: rows of each clip, the same in all layers."""
        lengths: NDArray[np.int64] = self.index.of_rows("n_rows", serving)
        if len(serving) > 1 and (differ := (lengths != lengths[0]).any(axis=0)).any():
            row = self.index.rows[serving[0, int(np.flatnonzero(differ)[0])]]
            clip_id = row["clip_id"].decode()
            raise StoreDamagedError(
                f"{self.spec.name}: clip {clip_id}: layers from different parts differ in length; "
                f"read them one by one, and see `mer-store show {clip_id}`"
            )
        shared: NDArray[np.int64] = lengths[0]
        return shared

    def _array_type(
        self, layers: Sequence[Layer], where: NDArray[np.int32]
    ) -> tuple[np.dtype[Any], int]:
        """Return the type that holds all that is in the parts `where` [layers, clips], and its one width."""
        infos = [
            self.parts.array(part, str(layer)).info
            for layer, parts in zip(layers, where, strict=True)
            for part in distinct(parts)
        ]
        if not infos:  # no clip asked for: the shape is that of any part
            names = {str(layer) for layer in layers}
            infos = [
                info
                for part in self.index.parts
                for name, info in part.arrays.items()
                if name in names
            ]
        widths = {info.shape[1] for info in infos}
        if len(widths) > 1:
            raise UsageError(
                f"{self.spec.name}: the layers {describe_layers(layers)} are of different widths "
                f"{sorted(widths)}; read them one by one"
            )
        dtypes = [np.dtype(info.dtype) for info in infos]
        stored = np.result_type(*dtypes) if dtypes else np.dtype(self.spec.stored_dtype)
        return stored, widths.pop() if widths else 0
