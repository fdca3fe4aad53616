"""Memory of batches, used again: the system takes longer to hand out fresh pages than the store to fill them.

In a loader's worker the memory is shared with the loader's process, and a byte at its end says whether that
process still holds the batch. Whoever holds any view of a batch keeps its memory from being used again.
"""

import math
import os
import weakref
from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

#: Blocks that are kept to be used again; more may be in use, and are given back to the system.
MAX_KEPT = 4
#: In a worker: two that wait for the loader, one that it holds, one that is being filled, and as many again.
MAX_KEPT_SHARED = 8
#: A fresh block is larger than was asked by this much, so that a slightly longer batch fits it, too.
ROOM = 1.25
_FREE, _SENT = 0, 1


class Block:
    """Memory for one batch, its last byte for what became of it."""

    def __init__(self, n_bytes: int, *, shared: bool) -> None:
        if shared:
            storage = torch.UntypedStorage._new_shared(n_bytes + 1)  # type: ignore[no-untyped-call]
            self.memory = torch.empty(0, dtype=torch.uint8).set_(storage)
        else:
            self.memory = torch.from_numpy(np.empty(n_bytes + 1, np.uint8))
            self.memory[-1] = _FREE
        self.n_bytes = n_bytes
        self.lent = False
        """Whether this process has a view of it."""

    @property
    def free(self) -> bool:
        """Whether no process has a view of it."""
        return not self.lent and int(self.memory[-1]) == _FREE

    def lend(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Tensor:
        """Return a tensor on it; once that and all its views are gone, `lent` is False again."""
        self.lent = True
        return _leased(self.memory, shape, dtype, self._returned)

    def _returned(self) -> None:
        self.lent = False


class _Lease:
    """What numpy holds while anybody has a view of the memory."""

    def __init__(self, memory: Tensor, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        n_bytes = math.prod(shape) * dtype.itemsize
        rows: NDArray[Any] = memory[:n_bytes].numpy().view(dtype).reshape(shape)
        self.__array_interface__ = rows.__array_interface__
        self._memory = memory


def _leased(
    memory: Tensor, shape: tuple[int, ...], dtype: np.dtype[Any], returned: Callable[[], None]
) -> Tensor:
    """Return a tensor on memory; `returned` is called once it and all its views are gone."""
    lease = _Lease(memory, shape, dtype)
    weakref.finalize(lease, returned).atexit = False
    return torch.from_numpy(np.asarray(lease))


class BatchMemory:
    """The blocks of one process."""

    def __init__(self) -> None:
        self.shared = get_worker_info() is not None
        self._kept: list[Block] = []
        self._lock = Lock()

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Tensor:
        """Return a tensor of any values."""
        n_bytes = math.prod(shape) * dtype.itemsize
        with self._lock:
            fits = [block for block in self._kept if block.free and block.n_bytes >= n_bytes]
            block = min(fits, key=lambda block: block.n_bytes, default=None) or self._fresh(n_bytes)
            return block.lend(shape, dtype)

    def _fresh(self, n_bytes: int) -> Block:
        """Return a new block, kept in place of a free one that was too small."""
        if small := next((kept for kept in self._kept if kept.free), None):
            self._kept.remove(small)
        if len(self._kept) == (MAX_KEPT_SHARED if self.shared else MAX_KEPT):
            return Block(n_bytes, shared=False)
        block = Block(int(n_bytes * ROOM), shared=self.shared)
        self._kept.append(block)
        return block

    def shared_block(self, batch: Tensor) -> Block | None:
        """Return the block that a batch fills from its start, where another process can have it, too."""
        if not (self.shared and batch.is_contiguous()):
            return None
        at = batch.data_ptr()
        with self._lock:
            return next((block for block in self._kept if block.memory.data_ptr() == at), None)


_own: tuple[int, BatchMemory] | None = None


def batch_memory() -> BatchMemory:
    """Return the blocks of this process: what was forked with it is its parent's."""
    global _own  # noqa: PLW0603 - one a process
    if _own is None or _own[0] != os.getpid():
        _own = os.getpid(), BatchMemory()
    return _own[1]


def send(block: Block) -> Tensor:
    """Note that a block is on its way to another process; return what to send there."""
    block.memory[-1] = _SENT
    return block.memory


def received(memory: Tensor, shape: tuple[int, ...], dtype: str) -> Tensor:
    """Return the batch on memory that another process sent; once it is gone, that process has it back."""

    def returned() -> None:
        memory[-1] = _FREE

    return _leased(memory, shape, np.dtype(dtype), returned)
