"""Clip ids made ready to be looked up, once for any number of feature sets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mer_store.store.index_rows import hash_ids


@dataclass(frozen=True)
class Asked:
    """Clip ids of a list in ascending order of their hashes: searched so, an index stays in the cache."""

    ids: NDArray[np.str_]
    """[clips]"""
    hashes: NDArray[np.uint64]
    """[clips], ascending."""
    place: NDArray[np.intp]
    """[clips]: where in the list each of them stands."""

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, clip_ids: "ClipIds") -> "Asked":
        """Make ids ready; what is ready already is returned."""
        if isinstance(clip_ids, Asked):
            return clip_ids
        ids = np.ascontiguousarray(clip_ids, np.str_)
        hashes = hash_ids(ids)
        place = np.argsort(hashes)
        return cls(ids[place], hashes[place], place)


ClipIds = Sequence[str] | NDArray[np.str_] | Asked
"""A list of clips, made ready to be looked up or not."""
