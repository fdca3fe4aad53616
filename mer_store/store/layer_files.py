"""The layers of a part being written: clips fill a block while threads write the one before it."""

from collections.abc import Collection, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_store.errors import UsageError
from mer_store.layers import Layer
from mer_store.store.row_block import RowBlock
from mer_store.store.rows_file import RowsFile
from mer_store.store.shard import CHUNK_ROWS


class LayerFiles:
    """Writes a part's layers, one file each.

    A clip is copied once, all its layers together; casting, checksums and writing wait until a block is full,
    and run per layer in threads of `pool`.

    Parameters
    ----------
    folder
        Of the part.
    layers
        In the order in which every clip's rows will come.
    stored_dtype
        float16 or float32; uint8 takes bytes alone.
    one_row
        Whether every clip has one row a layer.
    pool
        Runs whatever is slow.
    """

    def __init__(
        self,
        folder: Path,
        layers: Sequence[Layer],
        stored_dtype: np.dtype[Any],
        pool: Executor,
        *,
        one_row: bool,
    ) -> None:
        self.files: dict[Layer, RowsFile] = {}
        self._folder = folder
        self._layers = tuple(layers)
        self._stored_dtype = stored_dtype
        self._pool = pool
        self._one_row = one_row
        self._widths: tuple[int, ...] | None = None
        self._shapes: list[tuple[Any, tuple[int, ...]]] | None = None
        self._block: RowBlock | None = None
        self._spare: RowBlock | None = None
        self._writing: list[Future[None]] = []

    def stage(self, clip_id: str, rows: Sequence[NDArray[Any]]) -> NDArray[Any] | None:
        """Check the shapes of a clip's rows, [T, D] per layer; copy them where the block has room.

        Returns
        -------
        NDArray or None
            The copy, all layers side by side; None where the clip is too long for what is left of the block.

        Raises
        ------
        UsageError
            The shapes do not fit each other or the clips before; nothing was kept.
        """
        shapes = [(array.dtype, array.shape) for array in rows]
        if shapes != self._shapes:  # else: as the clip before, the usual case at utterance level
            self._check(clip_id, rows)
            self._prepare(rows)
            self._shapes = shapes
        block = self._block
        return block.stage(rows) if block and len(rows[0]) <= block.room else None

    @property
    def room(self) -> int:
        """Rows like those of the clip before that can be staged now."""
        return self._block.room if self._block else 0

    def stage_clips(self, rows: Sequence[NDArray[Any]]) -> NDArray[Any] | None:
        """Copy clips of one row each, [1, D] per clip and layer, clip by clip, at most `room` of them.

        Returns
        -------
        NDArray or None
            The copy [clips, sum of D]; None where their shapes are not those of the clip before.
        """
        shapes = [(array.dtype, array.shape) for array in rows]
        if self._block is None or shapes != (self._shapes or []) * (len(rows) // len(self._layers)):
            return None
        if {array.dtype for array in rows} != {self._block.dtype}:
            return None
        return self._block.stage_clips(rows)

    def take_clips(self, n_clips: int) -> None:
        """Keep the clips that `stage_clips` copied, none of which holds more than the stored type does."""
        if self._block is not None:
            self._widths = self._block.widths
            self._block.take(n_clips, frozenset())

    def append(
        self, rows: Sequence[NDArray[Any]], wide: Collection[Layer], *, staged: bool
    ) -> None:
        """Add the clip that was staged last, copied or not.

        The layers in `wide` hold values that float16 does not: they are stored as float32. All others are
        rounded to the stored type even where another clip made their file float32.
        """
        block, n_left = self._block, len(rows[0])
        if block is None:
            raise RuntimeError("append without stage")
        self._widths = block.widths
        positions = frozenset(self._layers.index(layer) for layer in wide) if wide else frozenset()
        if staged:
            block.take(n_left, positions)
            return
        start = 0
        while start < n_left:
            if not block.room:
                block = self._send(block)
            piece = [array[start : start + block.room] for array in rows]
            block.stage(piece)
            block.take(len(piece[0]), positions)
            start += len(piece[0])

    def settle(self) -> dict[str, RowsFile]:
        """Write the rows that are left in the block and return every layer's file, none being written to."""
        if self._block is not None and self._widths is not None:
            self._send(self._block)
        self._wait()
        self._block = self._spare = None
        return {str(layer): file for layer, file in self.files.items()}

    def _check(self, clip_id: str, rows: Sequence[NDArray[Any]]) -> None:
        named = list(zip(self._layers, rows, strict=True))
        for layer, array in named:
            where = f"clip {clip_id}, layer {layer}"
            bytes_wanted = self._stored_dtype == np.uint8
            right = array.dtype == np.uint8 if bytes_wanted else array.dtype.kind == "f"
            if array.ndim != 2 or not right or not array.shape[1]:
                kind = "bytes" if bytes_wanted else "floats"
                raise UsageError(
                    f"{where}: expected {kind} [T, D], got {array.dtype} {array.shape}"
                )
            if self._one_row and len(array) != 1:
                raise UsageError(f"{where}: expected one row, got {array.shape}")
        if len({len(array) for array in rows}) != 1:
            shapes = ", ".join(f"{layer}: {array.shape}" for layer, array in named)
            raise UsageError(f"clip {clip_id}: layers differ in length: {shapes}")
        for (layer, array), width in zip(named, self._widths or (), strict=False):
            if array.shape[1] != width:
                raise UsageError(
                    f"clip {clip_id}, layer {layer}: expected {width} wide, got {array.shape[1]}"
                )

    def _prepare(self, rows: Sequence[NDArray[Any]]) -> None:
        """Have a block that holds such rows exactly."""
        dtype = np.result_type(*(array.dtype for array in rows)).newbyteorder("=")
        widths = tuple(array.shape[1] for array in rows)
        block = self._block
        if block and (block.dtype, block.widths) == (dtype, widths):
            return
        if block and block.n_rows:
            self._send(block)
            self._wait()
        self._block, self._spare = RowBlock(dtype, widths), None

    def _send(self, block: RowBlock) -> RowBlock:
        """Have a block written while the other one fills up; return that one."""
        self._wait()
        self._block = self._spare or RowBlock(block.dtype, block.widths)
        self._block.clear()
        self._spare = block
        self._writing = [
            self._pool.submit(self._write, position, block) for position in range(len(self._layers))
        ]
        return self._block

    def _wait(self) -> None:
        """Wait until nothing is being written; raise what went wrong."""
        writing, self._writing = self._writing, []
        for future in writing:
            future.result()

    def _write(self, position: int, block: RowBlock) -> None:
        layer = self._layers[position]
        file = self.files.get(layer)
        if file is None:
            path = self._folder / str(layer) / "c" / "0" / "0"
            row_shape = (block.widths[position],)
            file = self.files[layer] = RowsFile(path, self._stored_dtype, row_shape, CHUNK_ROWS)
        for rows, wide in block.pieces(position):
            if wide and file.dtype == np.float16:
                file = self.files[layer] = file.widened()
            elif not wide and file.dtype != self._stored_dtype:
                rows = rows.astype(self._stored_dtype)  # noqa: PLW2901 - the same rows, rounded
            file.append(rows)
        file.start_writeback()
