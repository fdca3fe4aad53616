"""Rows of all layers side by side in memory, on their way to one file per layer."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_store.store.apart import empty_apart

BLOCK_BYTES = 8 << 20


class RowBlock:
    """Holds rows [n, sum of D] of one type: of each clip, its layers' rows one beside the other.

    Parameters
    ----------
    dtype
        Holds every value of the clips that will come exactly.
    widths
        D of each layer, in order.
    """

    def __init__(self, dtype: np.dtype[Any], widths: Sequence[int]) -> None:
        self.dtype = dtype
        self.widths = tuple(widths)
        ends = np.cumsum(self.widths).tolist()
        self._columns = [slice(end - width, end) for width, end in zip(widths, ends, strict=True)]
        n_rows = max(BLOCK_BYTES // (ends[-1] * dtype.itemsize), 1)
        self._rows: NDArray[Any] = empty_apart((n_rows, ends[-1]), dtype)
        self._wide: list[tuple[int, int, frozenset[int]]] = []
        self.n_rows = 0

    @property
    def room(self) -> int:
        """Rows that can still be added."""
        return len(self._rows) - self.n_rows

    def stage(self, layers: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Copy a clip's rows, [T, D] per layer with T <= `room`, and return them side by side.

        They count once `take` says so.
        """
        staged = self._rows[self.n_rows : self.n_rows + len(layers[0])]
        np.concatenate(layers, axis=1, out=staged)
        return staged

    def stage_clips(self, layers: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Copy clips of one row each, at most `room`: [1, D] per clip and layer, clip by clip."""
        n_clips = len(layers) // len(self.widths)
        staged = self._rows[self.n_rows : self.n_rows + n_clips]
        # numpy would give up the interpreter for each of the rows, and wait for the threads that write.
        out, begin = staged.reshape(-1).view(np.uint8).data, 0
        for rows in layers:
            end = begin + rows.nbytes
            out[begin:end] = rows.data.cast("B")
            begin = end
        return staged

    def take(self, n_rows: int, wide: frozenset[int]) -> None:
        """Keep the rows that were staged; the layers at `wide` hold more than the stored type does."""
        if wide:
            self._wide.append((self.n_rows, self.n_rows + n_rows, wide))
        self.n_rows += n_rows

    def pieces(self, layer: int) -> Iterator[tuple[NDArray[Any], bool]]:
        """Yield the rows [n, D] of the layer at a position, in order, and whether they are wide."""
        columns = self._rows[: self.n_rows, self._columns[layer]]
        done = 0
        for start, stop in [(a, b) for a, b, layers in self._wide if layer in layers]:
            yield columns[done:start], False
            yield columns[start:stop], True
            done = stop
        yield columns[done:], False

    def clear(self) -> None:
        """Forget all rows."""
        self._wide.clear()
        self.n_rows = 0
