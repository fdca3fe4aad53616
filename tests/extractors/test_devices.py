"""Devices and arithmetic are picked by name, and refused by name."""

import pytest
import torch

from extractors.models.devices import pick_device, pick_dtype
from mer_store.errors import UsageError

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_without_a_gpu(no_gpu):
    assert pick_device("auto") == pick_device("cpu") == CPU
    with pytest.raises(UsageError, match="torch sees 0 GPUs here"):
        pick_device("cuda")


def test_with_gpus(two_gpus):
    assert pick_device("auto") == pick_device("cuda") == GPU
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    assert pick_device("cpu") == CPU
    with pytest.raises(UsageError, match=r"cuda:2.*torch sees 2 GPUs"):
        pick_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "", "mps", "meta", "cuda:x"])
def test_other_names(name):
    with pytest.raises(UsageError, match=r"expected auto, cpu, cuda or cuda:<number>"):
        pick_device(name)


@pytest.mark.parametrize(
    ("device", "asked", "name"),
    [
        (CPU, "auto", "float32"),
        (GPU, "auto", "bfloat16"),
        (CPU, "bfloat16", "bfloat16"),
        (GPU, "float32", "float32"),
        (GPU, "float16", "float16"),
    ],
)
def test_dtypes(device, asked, name):
    assert pick_dtype(device, asked) == (getattr(torch, name), name)


def test_dtypes_refused():
    with pytest.raises(UsageError, match="float16: only on a GPU"):
        pick_dtype(CPU, "float16")
    with pytest.raises(UsageError, match="expected auto, float32, bfloat16, float16"):
        pick_dtype(GPU, "fp8")
