"""A ``.npy`` file of floats: read without trusting it, written as ``numpy.save`` does."""

import io
import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

#: More than an hour of frames of any model in use.
MAX_BYTES = 1 << 30
_HEAD_BYTES = 1 << 14
_FLOATS = (2, 4, 8)


class NotFeaturesError(Exception):
    """A file holds no features. The text is the reason that goes into the ledger: one line, no path."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a file says of itself."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    """Floats of 2, 4 or 8 bytes."""
    n_bytes: int
    """Of the head itself: where the values begin."""


def npy_bytes(array: NDArray[Any]) -> bytes:
    """Return what ``numpy.save`` writes of an array of numbers."""
    file = io.BytesIO()
    npy_format.write_array(file, array, version=(1, 0), allow_pickle=False)
    return file.getvalue()


def read_bytes(path: Path, n_bytes: int | None = None) -> bytes:
    """Read a plain file, all of it or its first `n_bytes`.

    Raises
    ------
    NotFeaturesError
        It is no plain file, or larger than features are.
    OSError
        It cannot be read.
    """
    # Without blocking: a pipe has no writer, and would be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise NotFeaturesError("not a plain file")
        if facts.st_size > MAX_BYTES:
            raise NotFeaturesError(f"{facts.st_size} bytes: expected at most {MAX_BYTES}")
        return file.read(facts.st_size if n_bytes is None else n_bytes)


def read_head(path: Path) -> Head:
    """Read the head of a file alone. Raises as `read_bytes` and `parse_head` do."""
    return parse_head(read_bytes(path, _HEAD_BYTES))


def parse_head(data: bytes) -> Head:
    """Read the head of a file's bytes.

    Raises
    ------
    NotFeaturesError
        It is no ``.npy`` file, or one of anything but floats: an object array is a pickle, never read.
    """
    file = io.BytesIO(data)
    try:
        version = npy_format.read_magic(file)
        read = {
            (1, 0): npy_format.read_array_header_1_0,
            (2, 0): npy_format.read_array_header_2_0,
        }[version]
        shape, fortran_order, dtype = read(file)
    except Exception as error:
        words = (str(error).splitlines() or [""])[0][:200]
        raise NotFeaturesError(f"not a .npy file: {words or type(error).__name__}") from error
    if dtype.hasobject:
        raise NotFeaturesError("an array of Python objects: a pickle, which is never read")
    if dtype.kind != "f" or dtype.itemsize not in _FLOATS:
        raise NotFeaturesError(f"expected floats of 2, 4 or 8 bytes, got {str(dtype)[:40]}")
    if any(type(length) is not int or length < 0 for length in shape) or len(shape) > 3:
        raise NotFeaturesError(f"expected the shape (D,) or (T, D), got {str(shape)[:40]}")
    return Head(shape, fortran_order, dtype, file.tell())


def parse_array(data: bytes) -> NDArray[Any]:
    """Return the array of a file's bytes, read-only, in this machine's byte order.

    Raises
    ------
    NotFeaturesError
        See `parse_head`; or the values are not all there, or more than the head says.
    """
    head = parse_head(data)
    expected, got = math.prod(head.shape) * head.dtype.itemsize, len(data) - head.n_bytes
    if expected != got:
        what = "truncated" if got < expected else "too long"
        raise NotFeaturesError(
            f"{what}: expected {expected} bytes of values for {head.dtype} {head.shape}, got {got}"
        )
    array = np.frombuffer(data, head.dtype, offset=head.n_bytes)
    array = array.reshape(head.shape, order="F" if head.fortran_order else "C")
    return array.astype(head.dtype.newbyteorder("="), copy=False)
