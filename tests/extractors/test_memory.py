"""Batches are cut to what memory allows, and nothing that was computed is lost or changed by it."""

import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from extractors.models.memory import Halving, free_bytes, ran_out, units_that_fit

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
GIB = 2**30


@pytest.fixture
def gpu_with_10_gib_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (8 * GIB, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 5 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 3 * GIB)


def test_half_of_the_free_memory_is_for_a_batch(gpu_with_10_gib_free):
    assert free_bytes(GPU) == 10 * GIB
    assert units_that_fit(GPU, 1e6, enough=10**9) == int(5 * GIB / 1e6)
    assert units_that_fit(GPU, 1e6, enough=100) == 100
    assert units_that_fit(GPU, 1e18, enough=100) == 1
    assert units_that_fit(CPU, 1e18, enough=100) == 100


class SmallMemory:
    """Squares numbers; a batch's padded size is its largest number times their count."""

    def __init__(self, n_most):
        self.n_most, self.tried, self.done = n_most, [], []

    def __call__(self, numbers):
        self.tried.append(size(numbers))
        if size(numbers) > self.n_most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.done += numbers
        return [number**2 for number in numbers]


def size(numbers):
    return len(numbers) * max(numbers)


NUMBERS = st.lists(st.integers(1, 50), min_size=1, max_size=40)


@given(st.lists(NUMBERS, max_size=5), st.integers(0, 500))
def test_each_item_is_done_once_and_what_was_too_much_is_not_tried_again(batches, n_most):
    halving, memory = Halving(), SmallMemory(n_most)
    for batch in batches:
        memory.tried.clear()
        memory.done.clear()
        limit = halving.limit
        found = halving(batch, size, memory, lambda number: -number)
        fits = [number <= n_most for number in batch]
        expected = [n**2 if ok else -n for n, ok in zip(batch, fits, strict=True)]
        assert found == expected
        assert memory.done == [n for n, ok in zip(batch, fits, strict=True) if ok]
        assert all(tried <= max(limit, *batch) for tried in memory.tried)
        assert halving.limit <= limit


def test_a_batch_goes_on_where_memory_ran_out():
    halving, memory = Halving(), SmallMemory(10)
    assert halving([2, 2, 2, 2, 2, 2, 2, 2], size, memory, int) == [4] * 8
    assert memory.tried == [16, 8, 8]
    assert halving.limit == 8


def test_an_item_that_does_not_fit_alone_makes_no_other_batch_smaller():
    halving, memory = Halving(), SmallMemory(10)
    assert halving([90], size, memory, lambda number: -number) == [-90]
    assert halving([2, 2, 2, 2, 2], size, memory, int) == [4] * 5
    assert memory.tried == [90, 10]


def test_tensors_are_batches_too():
    def run(rows):
        if len(rows) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [rows * 2]

    pieces = Halving()(torch.arange(10.0).view(5, 2), len, run, float)
    np.testing.assert_array_equal(torch.cat(pieces), torch.arange(10.0).view(5, 2) * 2)


def test_other_errors_are_not_memory():
    def broken(_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        Halving()([1, 2], size, broken, int)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("CUDA error: out of memory"), False),
    ],
)
def test_how_libraries_say_that_memory_ran_out(error, expected):
    assert ran_out(error) is expected


def test_torch_says_so_on_a_cpu():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60, dtype=torch.uint8)
    assert ran_out(raised.value)


def test_the_failed_attempts_tensors_are_gone_when_the_next_begins():
    """An error holds the frames it came through, and they hold what was computed."""
    attempts = []

    def run(numbers):
        assert all(attempt() is None for attempt in attempts)
        held = torch.zeros(3)
        attempts.append(weakref.ref(held))
        if len(numbers) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [float(held.sum())]

    assert Halving()([1, 1, 1, 1], size, run, float) == [0.0] * 4
    assert len(attempts) == 6
