"""Wav files of noise, without any decoder."""

import wave
from pathlib import Path

import numpy as np

RATE_HZ = 16_000


def write_wav(path: Path, seconds: float, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    samples = (3000 * rng.standard_normal(round(seconds * RATE_HZ))).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE_HZ, len(samples), "NONE", ""))
        file.writeframes(samples.tobytes())
