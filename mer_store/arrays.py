"""A feature set as dask arrays or an xarray dataset, for analysis of more than fits in memory.

Nothing is read until it is computed; what is read is checked, as by `FeatureSet.read`.

Shape letters: L layers, D feature width.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
from numpy.typing import NDArray

from mer_store.errors import UsageError
from mer_store.layers import Layer, describe_layers
from mer_store.store.feature_set import FeatureSet

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True)
class Piece:
    """Clips whose layers lie in the same parts: one chunk."""

    feature_set: FeatureSet
    layers: tuple[Layer, ...]
    clip_ids: tuple[str, ...]
    lengths: NDArray[np.int64]
    """[clips]: rows of each."""
    dtype: np.dtype[Any]

    @property
    def n_rows(self) -> int:
        """Rows of all clips."""
        return int(self.lengths.sum())

    def __getstate__(self) -> dict[str, Any]:
        """Leave what is open behind: a worker process opens the feature set for itself."""
        closed = copy(self.feature_set)
        closed.forget()
        return {**self.__dict__, "feature_set": closed}

    def read(self) -> NDArray[Any]:
        """Read and check the rows, [rows, L, D]."""
        if self.feature_set.spec.level == "utterance":
            return self.feature_set.read(self.layers, self.clip_ids, self.dtype)
        return np.concatenate(self.feature_set.ragged(self.layers, self.clip_ids, self.dtype))


def to_dask(feature_set: FeatureSet, layers: Layer | Sequence[Layer]) -> da.Array:
    """Return a dask array with the rows of all clips that have `layers`, one chunk for each piece on disk.

    Parameters
    ----------
    feature_set
        Of any level.
    layers
        One, or several of the same width.

    Returns
    -------
    dask.array.Array
        [rows, D] of one layer, [rows, L, D] of a list of them; one row a clip at utterance level. Clips
        are in the order they have on disk: `to_xarray` says which is which.

    Raises
    ------
    UsageError
        No clip has the layers, or they differ in width.
    StoreDamagedError
        When the array is computed: bytes are missing or wrong.
    """
    if isinstance(layers, (int, str)):
        return _joined(_pieces(feature_set, (layers,)))[:, 0]
    return _joined(_pieces(feature_set, tuple(layers)))


def to_xarray(feature_set: FeatureSet, layers: Sequence[Layer]) -> "xarray.Dataset":
    """Return an xarray dataset over `to_dask`'s array, with clip ids, layers and the spec.

    Returns
    -------
    xarray.Dataset
        ``features`` [clip, layer, feature] at utterance level; at frame level [row, layer, feature] and
        ``offsets`` [clips + 1]: clip c owns the rows ``offsets[c]:offsets[c + 1]``. Coordinates ``clip``
        and ``layer``; the spec is in ``attrs``.

    Raises
    ------
    UsageError
        As `to_dask`, or xarray is not installed.
    """
    try:
        import xarray
    except ImportError as error:
        raise UsageError(
            f"to_xarray() needs xarray: pip install 'mer-store[xarray]' ({error})"
        ) from error
    pieces = _pieces(feature_set, tuple(layers))
    frames = feature_set.spec.level == "frame"
    names = [str(layer) for layer in layers]
    numbered = all(isinstance(layer, int) for layer in layers)
    variables: dict[str, Any] = {
        "features": (("row" if frames else "clip", "layer", "feature"), _joined(pieces))
    }
    if frames:
        lengths = np.concatenate([piece.lengths for piece in pieces])
        variables["offsets"] = ("offset", np.concatenate([[0], np.cumsum(lengths)]))
    return xarray.Dataset(
        variables,
        coords={
            "clip": ("clip", [clip_id for piece in pieces for clip_id in piece.clip_ids]),
            "layer": ("layer", list(layers) if numbered else names),
        },
        attrs={**asdict(feature_set.spec), "fingerprint": feature_set.spec.fingerprint},
    )


def _joined(pieces: Sequence[Piece]) -> da.Array:
    """Return [rows, L, D], a chunk for each piece."""
    first = pieces[0]
    widths = {
        part.arrays[str(layer)].shape[1]
        for part in first.feature_set.index.parts
        for layer in first.layers
        if layer in part.layers and str(layer) in part.arrays
    }
    if len(widths) > 1:
        raise UsageError(
            f"{first.feature_set.name}: the layers {describe_layers(first.layers)} are of different widths "
            f"{sorted(widths)}; take them one by one"
        )
    inner = (len(first.layers), *widths)
    chunks = []
    for piece in pieces:
        read = dask.delayed(piece.read, pure=False, traverse=False)()
        chunks.append(da.from_delayed(read, (piece.n_rows, *inner), piece.dtype))
    return da.concatenate(chunks)


def _pieces(feature_set: FeatureSet, layers: tuple[Layer, ...]) -> list[Piece]:
    """Cut the clips that have all of `layers`, as they lie on disk, where a layer's part changes."""
    known = np.asarray(feature_set.clip_ids, np.str_)
    located = feature_set.locate(layers, known)
    there = np.flatnonzero(located.there)
    if not len(there):
        raise UsageError(
            f"{feature_set.name}: no clip has the layers {describe_layers(layers)}; "
            f"there are {describe_layers(feature_set.layers)}"
        )
    ids = known[there[np.argsort(located.row[there])]]
    index = feature_set.index
    rows = index.rows[located.serving]
    changes = (rows["part"][:, 1:] != rows["part"][:, :-1]).any(axis=0)
    cuts = [0, *(np.flatnonzero(changes) + 1).tolist(), len(ids)]
    dtype = np.result_type(
        *{
            index.parts[part].arrays[str(layer)].dtype
            for layer, parts in zip(layers, rows["part"], strict=True)
            for part in np.unique(parts).tolist()
        }
    )
    return [
        Piece(feature_set, layers, tuple(ids[a:b].tolist()), rows["n_rows"][0, a:b], dtype)
        for a, b in pairwise(cuts)
    ]
