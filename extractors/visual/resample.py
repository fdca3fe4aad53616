"""Pillow's resizing of 8-bit images, exactly, on tensors and in batches.

This restates `src/libImaging/Resample.c` of Pillow 13.0.0. An output is a sum over a window of inputs. Its
weights come from a kernel, stretched where the image shrinks, and add up to one; each is then rounded to a
multiple of 2**-22, halves away from zero. The sum is rounded to a grey level, halves up, and clipped to 0
to 255: once after the rows, once after the columns. Such sums are exact in float64, in any order, so that
no batch, no device and no library of matrix products changes a value.

Where the height loses over twice as many pixels as the width, Pillow 13 takes the columns first, and so
does this. Pillow before 13 takes the rows first (12.2 and 12.3 not of strips over 100 times as high as
wide) and makes other values of such images. Squares that stay square are not among them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]

STEPS = 2**22
"""Of a weight, between 0 and 1: what 32 bits leave beside 8 of a grey level and 2 for sums out of range."""
BAND = 32
"""Outputs in a matrix product; their windows overlap, so few of its weights are zeros."""


def _bilinear(distance: Floats) -> Floats:
    return np.maximum(1 - distance, 0.0)


def _bicubic(distance: Floats) -> Floats:
    """Cubic convolution with a = -0.5."""
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = (((distance - 5) * distance + 8) * distance - 4) * -0.5
    return np.where(distance < 1, near, np.where(distance < 2, far, 0.0))


@dataclass(frozen=True)
class Kernel:
    """How much an input counts for an output."""

    weigh: Callable[[Floats], Floats]
    """Of the distance between the two, in inputs where the image grows, in outputs where it shrinks."""
    reach: float
    """Distance from which on nothing counts."""


KERNELS = {"bilinear": Kernel(_bilinear, 1.0), "bicubic": Kernel(_bicubic, 2.0)}


@dataclass(frozen=True)
class Band:
    """Outputs next to each other along one side of an image, and what they are made of."""

    inputs: slice
    """All that any of them takes."""
    weights: Tensor
    """float64 [outputs, inputs], multiples of 1 / `STEPS`."""


def resample(images: Tensor, size: tuple[int, int], kernel: str) -> Tensor:
    """Resize images as Pillow does.

    Parameters
    ----------
    images
        Grey levels [N, C, H, W], whole numbers of any type.
    size
        Height and width to make.
    kernel
        A name of `KERNELS`.

    Returns
    -------
    Tensor
        Grey levels, float64 [N, C, height, width], on the same device.
    """
    height, width = size
    grey = images.to(torch.float64, memory_format=torch.contiguous_format)
    lower_by, narrower_by = images.shape[2] - height, images.shape[3] - width
    if lower_by > max(2 * narrower_by, 0):
        return _resize_rows(_resize_columns(grey, height, kernel), width, kernel)
    return _resize_columns(_resize_rows(grey, width, kernel), height, kernel)


def _resize_rows(grey: Tensor, width: int, kernel: str) -> Tensor:
    if grey.shape[3] == width:
        return grey
    of_bands = _bands(grey.shape[3], width, kernel, grey.device)
    return _round(torch.cat([grey[..., band.inputs] @ band.weights.T for band in of_bands], dim=3))


def _resize_columns(grey: Tensor, height: int, kernel: str) -> Tensor:
    if grey.shape[2] == height:
        return grey
    of_bands = _bands(grey.shape[2], height, kernel, grey.device)
    return _round(torch.cat([band.weights @ grey[:, :, band.inputs] for band in of_bands], dim=2))


def _round(sums: Tensor) -> Tensor:
    return sums.add_(0.5).floor_().clamp_(0, 255)


@lru_cache(maxsize=32)
def _bands(n_inputs: int, n_outputs: int, kernel: str, device: torch.device) -> tuple[Band, ...]:
    return tuple(
        _band(np.arange(start, min(start + BAND, n_outputs)), n_inputs, n_outputs, kernel, device)
        for start in range(0, n_outputs, BAND)
    )


def _band(
    outputs: NDArray[np.int64], n_inputs: int, n_outputs: int, kernel: str, device: torch.device
) -> Band:
    scale = n_inputs / n_outputs
    stretch = max(scale, 1.0)
    reach = KERNELS[kernel].reach * stretch
    centres = (outputs + 0.5)[:, None] * scale
    first = np.maximum(np.trunc(centres - reach + 0.5), 0)
    end = np.minimum(np.trunc(centres + reach + 0.5), n_inputs)
    taken = slice(int(first[0, 0]), int(end[-1, 0]))
    inputs = np.arange(taken.start, taken.stop)
    weights = KERNELS[kernel].weigh(np.abs((inputs - centres + 0.5) * (1 / stretch)))
    weights[(inputs < first) | (inputs >= end)] = 0
    weights /= np.cumsum(weights, axis=1)[:, -1:]  # added one by one, as Pillow does
    rounded = np.trunc(weights * STEPS + np.copysign(0.5, weights)) / STEPS
    return Band(taken, torch.from_numpy(rounded).to(device))
