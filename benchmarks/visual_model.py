"""Stages of the visual path from the crops on: their preparation, beside CLIP's own, and the model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPImageProcessorPil

from extractors.models.devices import pick_device, pick_dtype
from extractors.visual.clip import EMBED, describe_model
from extractors.visual.faces.detector import Rgb
from extractors.visual.pixels import Pixels, pixels_of

BATCH = 32
THEIRS, OURS = "transformers' CLIPImageProcessor", "ours, on the device"
ALONE = "an image a forward pass"

Job = Callable[[], object]


@dataclass(frozen=True)
class Preparation:
    """Crops on their way to pixels that CLIP takes, in two ways."""

    crops: Rgb
    device: torch.device

    @property
    def jobs(self) -> dict[str, Job]:
        """What is timed, theirs first: from crops in memory to pixels on the device."""
        pixels, processor = pixels_of(None), CLIPImageProcessorPil()
        return {
            THEIRS: lambda: self._each(lambda crops: prepare(processor, crops)),
            OURS: lambda: self._each(lambda crops: pixels(torch.from_numpy(crops).to(self.device))),
        }

    def differences(self) -> np.ndarray:
        """Return by how many grey levels each value differs, [n, 3, H, W] flattened."""
        pixels, processor = pixels_of(None), CLIPImageProcessorPil()
        apart = []
        for crops in self._batches():
            ours = pixels(torch.from_numpy(crops).to(self.device)).cpu()
            theirs = prepare(processor, crops)
            apart.append((grey(ours, pixels) - grey(theirs, pixels)).abs().flatten())
        return torch.cat(apart).numpy()

    def _batches(self) -> Iterator[Rgb]:
        for start in range(0, len(self.crops), BATCH):
            yield self.crops[start : start + BATCH]

    def _each(self, prepared: Callable[[Rgb], Tensor]) -> None:
        for crops in self._batches():
            prepared(crops).to(self.device)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def prepare(processor: CLIPImageProcessorPil, crops: Rgb) -> Tensor:
    """Return what CLIP's own processor makes of crops."""
    values: Tensor = processor(images=list(crops), return_tensors="pt")["pixel_values"]
    return values


def grey(values: Tensor, pixels: Pixels) -> Tensor:
    """Return a model's input [n, 3, H, W] as grey levels."""
    mean, std = (torch.tensor(of).view(1, 3, 1, 1) for of in (pixels.mean, pixels.std))
    return (values * std + mean) / pixels.factor


def model_jobs(folder: Path, crops: Rgb, device_name: str) -> dict[str, Job]:
    """Load a checkpoint and return what is timed: from pixels on the device to rows in memory."""
    device = pick_device(device_name)
    dtype, _ = pick_dtype(device, "auto")
    described = describe_model(str(folder))
    tower = described.load(device, dtype)
    pixels = described.pixels(torch.from_numpy(crops).to(device))

    def run(n_images: int) -> None:
        for part in pixels.split(n_images):
            tower(part, (EMBED,))

    limit = min(described.images_that_fit(device), len(pixels))
    run(limit)  # a GPU chooses its kernels
    return {ALONE: lambda: run(1), f"{limit} images a forward pass": lambda: run(limit)}
