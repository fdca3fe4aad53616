"""Padding: which frames of a batch are a clip's own.

Shape letters: B waveforms or texts in a batch, T frames or tokens of the longest, D width.
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
    """Real frames of each clip."""
    real: Tensor | None
    """Which frames are real, bool [B, T] on the device; None where all are."""
    places: Tensor | None
    """Where they are among [B * T], int64 [sum of lengths] on the device; None where all are real."""

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> "Padding":
        """Pad to the longest of `lengths`."""
        return cls.around(frame_mask(torch.tensor(lengths), max(lengths)), device)

    @classmethod
    def around(cls, real: Tensor, device: torch.device) -> "Padding":
        """Take all for padding but what is `real`, bool [B, T] on the host."""
        lengths = tuple(real.sum(1).tolist())
        if real.all():
            return cls(lengths, None, None)
        places = real.flatten().nonzero().squeeze(1)
        return cls(lengths, to_device(real, device), to_device(places, device))


def sum_frames(values: Tensor, padding: Padding) -> Tensor:
    """Return the sum over the real frames of each clip, [B, D], of values [B, T, D]."""
    if padding.real is not None:
        values = values.masked_fill(~padding.real[..., None], 0)
    return values.sum(1)


def real_frames(values: Tensor, padding: Padding) -> Tensor:
    """Return the real frames of all clips, one after the other, [sum of lengths, D]."""
    flat = values.flatten(0, 1)
    return flat if padding.places is None else flat.index_select(0, padding.places)
