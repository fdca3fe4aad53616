"""Where the rows of many clips lie: found once, read as they lie on disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mer_store.layers import Layer
from mer_store.store.asked import Asked, ClipIds
from mer_store.store.reader import Reader, Serving


@dataclass(frozen=True)
class Located:
    """The clips of a list that have all of some layers, and where."""

    layers: tuple[Layer, ...]
    row: NDArray[np.int64]
    """[clips]: place of a clip's row in what `read` returns, -1 for a clip that lacks a layer."""
    reader: Reader
    serving: Serving
    """[layers, n]: rows of the index, as they lie on disk."""

    @cached_property
    def media(self) -> list[bytes]:
        """Digest of the media that each clip with rows was extracted from, in the order of the list."""
        rows = self.serving[0][self.row[self.there]]
        digests: list[bytes] = self.reader.index.rows["digest"][rows].tolist()
        return digests

    @property
    def there(self) -> NDArray[np.bool_]:
        """[clips]: whether a clip has all the layers."""
        return self.row >= 0

    def read(self, dtype: DTypeLike | None = None, *, verify: bool = True) -> NDArray[Any]:
        """Read one row per clip and layer, [n, layers, D]; parameters and errors as `FeatureSet.read`."""
        return self.reader.rows_at(self.layers, self.serving, dtype, verify=verify)


def locate(reader: Reader, layers: Sequence[Layer], clip_ids: ClipIds) -> Located:
    """Find the clips that have all of `layers`; the others are no error."""
    index, asked = reader.index, Asked.of(clip_ids)
    number = index.find_sorted(asked)
    known = np.flatnonzero(number >= 0)
    serving = np.stack([index.column(str(layer))[number[known]] for layer in layers])
    complete = (serving >= 0).all(axis=0)
    place, serving = asked.place[known[complete]], serving[:, complete]
    first = index.rows[["part", "row_start"]][serving[0]]
    on_disk = np.argsort((first["part"].astype(np.int64) << 40) + first["row_start"])
    row = np.full(len(asked), -1, np.int64)
    row[place[on_disk]] = np.arange(len(place))
    return Located(tuple(layers), row, reader, serving[:, on_disk])
