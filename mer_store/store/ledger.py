"""The ledger: what became of each clip, as columns aligned to the clips asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_store.layers import Layer


class Status(IntEnum):
    """What became of a clip. `MISSING`: no part speaks of it."""

    MISSING = 0
    OK = 1
    EMPTY = 2
    FAILED = 3


@dataclass(frozen=True)
class Ledger:
    """One entry per clip asked for, in the order asked."""

    clip_ids: Sequence[str]
    status: NDArray[np.uint8]
    """[clips] of `Status`, at the clip's current digest."""
    digest: NDArray[Any]
    """[clips] of str or None: identity of the bytes the clip was extracted from."""
    n_bytes: NDArray[np.int64]
    """[clips], -1 where unknown."""
    mtime_ns: NDArray[np.int64]
    """[clips], -1 where unknown."""
    attempt: NDArray[np.int32]
    """[clips]: the highest attempt recorded, -1 where none is."""
    reasons: list[str | None]
    """Why a clip failed or is empty."""
    layers: tuple[Layer, ...]
    """Layers that any part holds."""
    layer_status: NDArray[np.uint8]
    """[clips, layers] of `Status`: what became of each layer at the clip's current digest."""

    def of_layers(self, layers: Sequence[Layer]) -> NDArray[np.uint8]:
        """Return [clips, layers] of `Status`: what became of each of `layers` at the current digest."""
        found = np.full((len(self.clip_ids), len(layers)), Status.MISSING, dtype=np.uint8)
        for column, layer in enumerate(layers):
            if layer in self.layers:
                found[:, column] = self.layer_status[:, self.layers.index(layer)]
        return found

    def has(self, layers: Sequence[Layer]) -> NDArray[np.bool_]:
        """Return [clips, layers]: whether each clip has each of `layers` at its current digest."""
        there: NDArray[np.bool_] = self.of_layers(layers) == Status.OK
        return there

    @classmethod
    def empty(cls, clip_ids: Sequence[str]) -> "Ledger":
        """Return the ledger of clips of which nothing is known."""
        n = len(clip_ids)
        return cls(
            clip_ids=clip_ids,
            status=np.zeros(n, dtype=np.uint8),
            digest=np.full(n, None, dtype=object),
            n_bytes=np.full(n, -1, dtype=np.int64),
            mtime_ns=np.full(n, -1, dtype=np.int64),
            attempt=np.full(n, -1, dtype=np.int32),
            reasons=[None] * n,
            layers=(),
            layer_status=np.zeros((n, 0), dtype=np.uint8),
        )
