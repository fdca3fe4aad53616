"""Samples as the model takes them: normalised, and for some recipes cut into chunks."""

import numpy as np

from extractors.contract import ClipEmpty, Floats
from extractors.models.speech import RATE_HZ

#: Peak under which a clip is digital silence: one step of 16-bit audio.
SILENCE_PEAK = 2.0**-15


def require_sound(samples: Floats) -> None:
    """Refuse digital silence: normalising it would blow up rounding noise, or give one constant row."""
    if np.abs(samples).max() < SILENCE_PEAK:
        raise ClipEmpty("silence")


def require_length(samples: Floats, min_samples: int) -> None:
    """Refuse a clip too short for a single frame."""
    if len(samples) < min_samples:
        length_ms = 1000 * len(samples) / RATE_HZ
        raise ClipEmpty(
            f"{length_ms:.3g} ms of audio ({len(samples)} samples): "
            f"under the {min_samples} the model needs"
        )


def normalise(samples: Floats) -> Floats:
    """Shift and scale a whole clip to mean 0 and variance 1, bit for bit as Wav2Vec2FeatureExtractor."""
    normal: Floats = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    return normal


def pad_to_chunks(samples: Floats, n_chunk: int) -> Floats:
    """Fill a clip longer than a chunk with zeros to a multiple of the chunk; leave a shorter one alone."""
    if len(samples) <= n_chunk:
        return samples
    return np.pad(samples, (0, -len(samples) % n_chunk))
