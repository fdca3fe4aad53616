"""Padding: which frames of a batch are a clip's own.

Shape letters: B waveforms in a batch, T frames of the longest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from extractors.models.blocks import frame_mask
from extractors.models.copies import to_device


@dataclass(frozen=True)
class Padding:
    """Made on the host, so that nobody waits for the device to learn it."""

    lengths: tuple[int, ...]
    """Real frames of each waveform."""
    real: Tensor | None
    """Which frames are real, bool [B, T] on the device; None where all are."""
    places: Tensor | None
    """Where they are among [B * T], int64 [sum of lengths] on the device; None where all are real."""

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> "Padding":
        """Pad to the longest of `lengths`."""
        if min(lengths) == max(lengths):
            return cls(tuple(lengths), None, None)
        real = frame_mask(torch.tensor(lengths), max(lengths))
        places = real.flatten().nonzero().squeeze(1)
        return cls(tuple(lengths), to_device(real, device), to_device(places, device))
