"""Copies: none on a CPU; towards a GPU pinned, not waited for, and waited for once a batch."""

import pytest
import torch

from extractors.models import copies
from extractors.models.copies import HostCopies, host_zeros, to_device

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def test_on_a_cpu_nothing_is_copied():
    zeros = host_zeros((2, 3), torch.float32, CPU)
    assert zeros.shape == (2, 3)
    assert not zeros.any()
    assert to_device(zeros, CPU) is zeros
    results = HostCopies()
    assert results.take(zeros) is zeros
    results.wait()


class Event:
    """Stands for CUDA's, which needs a GPU."""

    def __init__(self, log, **_):
        self.log = log

    def record(self, stream):
        self.log.append(f"recorded on {stream}")

    def synchronize(self):
        self.log.append("waited")


class OnGpu:
    """Stands for a tensor on a GPU: here only its place and what is asked of it matter."""

    device, shape, dtype = GPU, (2, 3), torch.float32


@pytest.fixture
def log(monkeypatch):
    log = []

    class Host:
        def copy_(self, tensor, *, non_blocking):
            log.append(f"copy of {tuple(tensor.shape)}, non_blocking {non_blocking}")
            return self

    def empty(shape, *, dtype, pin_memory):
        log.append(f"pinned {pin_memory}")
        return Host()

    monkeypatch.setattr(copies.torch, "empty", empty)
    monkeypatch.setattr(torch.cuda, "Event", lambda **settings: Event(log, **settings))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    return log


def test_results_are_waited_for_once(log):
    results = HostCopies()
    results.take(OnGpu())
    results.take(OnGpu())
    results.wait()
    one = ["pinned True", "copy of (2, 3), non_blocking True"]
    assert log == [*one, *one, "recorded on stream of cuda:0", "waited"]


def test_what_goes_to_a_gpu_goes_from_pinned_memory():
    log = []

    class Pageable:
        device = CPU

        def is_pinned(self):
            return False

        def pin_memory(self):
            log.append("pinned")
            return self

        def to(self, device, *, non_blocking):
            log.append(f"to {device}, non_blocking {non_blocking}")
            return self

    to_device(Pageable(), GPU)
    assert log == ["pinned", "to cuda:0, non_blocking True"]
