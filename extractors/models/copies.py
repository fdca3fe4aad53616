"""Copies between the host and a GPU that nobody waits for, but once a batch. On a CPU nothing is copied."""

from collections.abc import Sequence

import torch
from torch import Tensor


def host_zeros(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a zeroed tensor on the host to be filled and copied to `device`: pinned where that is a GPU."""
    return torch.zeros(tuple(shape), dtype=dtype, pin_memory=device.type == "cuda")


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on `device`, where work queued from now on finds it whole."""
    if device.type == "cpu" or tensor.device == device:
        return tensor
    pinned = tensor if tensor.is_pinned() else tensor.pin_memory()
    return pinned.to(device, non_blocking=True)


class HostCopies:
    """Copies of a batch's results on their way to the host. Read none of them before `wait`."""

    def __init__(self) -> None:
        self._device: torch.device | None = None

    def take(self, tensor: Tensor) -> Tensor:
        """Start a copy into pinned memory and return where it will be; a tensor on the CPU is itself it."""
        if tensor.device.type == "cpu":
            return tensor
        self._device = tensor.device
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        return host.copy_(tensor, non_blocking=True)

    def wait(self) -> None:
        """Wait until all copies are there: the one wait of a batch, for this thread's work alone."""
        if self._device is None:
            return
        done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        done.record(torch.cuda.current_stream(self._device))
        done.synchronize()
