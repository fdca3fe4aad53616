"""Where a model computes, and in which arithmetic."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from mer_store.errors import UsageError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(asked: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``cuda:1`` into a device that is there.

    Raises
    ------
    UsageError
        The name is none of these, or the GPU it names is not there.
    """
    if asked == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(asked)
    except RuntimeError as error:
        raise UsageError(f"device {asked!r}: expected auto, cpu, cuda or cuda:<number>") from error
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type != "cuda":
        raise UsageError(f"device {asked!r}: expected auto, cpu, cuda or cuda:<number>")
    n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = device.index or 0
    if index >= n_devices:
        why = "this build of torch has no CUDA" if torch.version.cuda is None else "see nvidia-smi"
        raise UsageError(
            f"device {asked!r}: torch sees {n_devices} GPUs here ({why}); use --device cpu"
        )
    return torch.device("cuda", index)


def arithmetic(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Return the context in which a model computes.

    Half precision is by autocast; in float32 a GPU's TF32 is off.
    """
    if dtype != torch.float32:
        return torch.autocast(device.type, dtype=dtype)
    if device.type == "cuda":
        return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    return nullcontext()


def pick_dtype(device: torch.device, asked: str) -> tuple[torch.dtype, str]:
    """Return the arithmetic and its name for the spec.

    ``auto`` is float32 on a CPU, where half precision is 4 to 18 times slower, and bfloat16 on a GPU.

    Raises
    ------
    UsageError
        The name is unknown, or float16 is asked of a CPU.
    """
    name = asked
    if asked == "auto":
        name = "float32" if device.type == "cpu" else "bfloat16"
    if name not in DTYPES:
        raise UsageError(f"compute dtype {asked!r}: expected auto, {', '.join(DTYPES)}")
    if name == "float16" and device.type == "cpu":
        raise UsageError(
            "compute dtype float16: only on a GPU; on a CPU use float32 (or bfloat16, which is slow)"
        )
    return DTYPES[name], name
