"""Where the rows of many clips lie: found once, read as they lie on disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mer_store.layers import Layer
from mer_store.store.reader import Reader, Serving


@dataclass(frozen=True)
class Located:
    """The clips of a list that have all of some layers, and where."""

    layers: tuple[Layer, ...]
    row: NDArray[np.int64]
    """[clips]: place of a clip's row in what `read` returns, -1 for a clip that lacks a layer."""
    media: list[bytes]
    """Digest of the media that each clip with rows was extracted from, in the order of the list."""
    reader: Reader
    serving: Serving
    """[layers, n]: rows of the index, as they lie on disk."""

    @property
    def there(self) -> NDArray[np.bool_]:
        """[clips]: whether a clip has all the layers."""
        return self.row >= 0

    def read(self, dtype: DTypeLike | None = None, *, verify: bool = True) -> NDArray[Any]:
        """Read one row per clip and layer, [n, layers, D]; parameters and errors as `FeatureSet.read`."""
        return self.reader.rows_at(self.layers, self.serving, dtype, verify=verify)


def locate(
    reader: Reader, layers: Sequence[Layer], clip_ids: Sequence[str] | NDArray[np.str_]
) -> Located:
    """Find the clips that have all of `layers`; the others are no error."""
    index = reader.index
    number = index.find(clip_ids)
    known = np.flatnonzero(number >= 0)
    serving = np.stack([index.column(str(layer))[number[known]] for layer in layers])
    complete = (serving >= 0).all(axis=0)
    present, serving = known[complete], serving[:, complete]
    media = index.rows["digest"][serving[0]].tolist()
    part = index.rows["part"][serving[0]].astype(np.int64)
    on_disk = np.argsort((part << 40) + index.rows["row_start"][serving[0]])
    row = np.full(len(number), -1, np.int64)
    row[present[on_disk]] = np.arange(len(present))
    return Located(tuple(layers), row, media, reader, serving[:, on_disk])
