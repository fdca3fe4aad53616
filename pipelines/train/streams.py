"""Streams of random numbers, each named by what it is for.

A stream is a function of its key alone, not of what was drawn before: a run that resumes at an epoch, or
trains one of many models alone, draws the same numbers.
"""

import hashlib

import numpy as np
import torch


def seed_of(*key: int | str) -> int:
    """Return a seed of 63 bits made of `key`, e.g. ``(seed, "batches", fold, epoch)``."""
    text = "/".join(map(str, key)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little") >> 1


def stream(*key: int | str) -> torch.Generator:
    """Return torch's generator of the stream `key`, on the CPU: the same numbers whatever the device."""
    return torch.Generator().manual_seed(seed_of(*key))


def numpy_stream(*key: int | str) -> np.random.Generator:
    """Return NumPy's generator of the stream `key`."""
    return np.random.default_rng(seed_of(*key))
