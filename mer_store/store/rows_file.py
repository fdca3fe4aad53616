"""One array being written: rows come in any number, whole checksummed chunks go out."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mer_store.store.layout import FILE_MODE, make_folder
from mer_store.store.record import FileFacts
from mer_store.store.shard import CRC_BYTES, ArrayInfo, crc_bytes, shard_index
from mer_store.store.writeback import start_writeback


class RowsFile:
    """Writes one array's shard from front to back, holding one chunk in memory.

    Parameters
    ----------
    path
        The shard's file, which must not be there yet.
    dtype, row_shape
        Of the array: () or (D,).
    chunk_rows
        Rows of an inner chunk. An array of fewer rows becomes one chunk of just these.
    """

    def __init__(
        self, path: Path, dtype: DTypeLike, row_shape: tuple[int, ...], chunk_rows: int
    ) -> None:
        self.path = path
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.row_shape = row_shape
        self.chunk_rows = chunk_rows
        self.n_rows = 0
        self._pending: NDArray[Any] = np.empty((chunk_rows, *row_shape), self.dtype)
        self._n_pending = 0
        self._sha256 = hashlib.sha256()
        self._n_bytes = 0
        self._n_bytes_asked = 0
        make_folder(path.parent)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows [n, *row_shape], cast to the array's dtype."""
        start, n_left = 0, len(rows)
        self.n_rows += n_left
        while n_left:
            filled = self._n_pending
            n = min(n_left, self.chunk_rows - filled)
            self._pending[filled : filled + n] = rows[start : start + n]
            self._n_pending = filled + n
            start, n_left = start + n, n_left - n
            if self._n_pending == self.chunk_rows:
                self._write_chunk(self._pending)
                self._n_pending = 0

    def finish(self) -> tuple[ArrayInfo, FileFacts | None]:
        """Write what is pending and the index; return the array and, unless it has no rows, its file.

        Nothing is durable before `sync`.
        """
        info = self._info()
        if not info.n_rows:
            self.abandon()
            self.path.unlink()
            return info, None
        if self._n_pending:
            self._pending[self._n_pending :] = 0
            self._write_chunk(self._pending[: info.chunk_rows])
            self._n_pending = 0
        self._write(shard_index(info))
        os.fchmod(self._descriptor, FILE_MODE)
        return info, FileFacts(self._n_bytes, self._sha256.hexdigest())

    def start_writeback(self) -> None:
        """Have what was written so far on its way to the disk, while more is being made."""
        asked, self._n_bytes_asked = self._n_bytes_asked, self._n_bytes
        if self._n_bytes > asked:
            start_writeback(self._descriptor, asked, self._n_bytes - asked)

    def sync(self) -> None:
        """Make the finished file durable and close it. Its folder is not synced."""
        if self._descriptor >= 0:
            os.fsync(self._descriptor)
            self.abandon()

    def abandon(self) -> None:
        """Close the file, leaving it as it is."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def widened(self) -> "RowsFile":
        """Return a float32 file, in place of this one, that holds the rows written so far."""
        beside = self.path.with_name(self.path.name + ".wide")
        wide = RowsFile(beside, np.float32, self.row_shape, self.chunk_rows)
        try:
            for start in range(0, self._n_bytes, self._pending.nbytes + CRC_BYTES):
                data = os.pread(self._descriptor, self._pending.nbytes, start)
                wide.append(np.frombuffer(data, self.dtype).reshape(self._pending.shape))
            wide.append(self._pending[: self._n_pending])
            beside.replace(self.path)
        except BaseException:
            wide.abandon()
            raise
        wide.path = self.path
        self.abandon()
        return wide

    def _info(self) -> ArrayInfo:
        chunk_rows = min(self.chunk_rows, max(self.n_rows, 1))
        return ArrayInfo((self.n_rows, *self.row_shape), self.dtype.name, chunk_rows)

    def _write_chunk(self, rows: NDArray[Any]) -> None:
        self._write(rows.reshape(-1).view(np.uint8).data, crc_bytes(rows))

    def _write(self, *pieces: bytes | memoryview) -> None:
        for piece in pieces:
            self._sha256.update(piece)
            self._n_bytes += len(piece)
        n_left = sum(map(len, pieces)) - os.writev(self._descriptor, pieces)
        if n_left:
            rest = memoryview(b"".join(pieces))[-n_left:]
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
