"""CLIP's own image preprocessing, on tensors and in batches.

On a CPU the values equal those of transformers' `CLIPImageProcessorPil` over Pillow 13 to the last bit:
images are resized as Pillow does it (`extractors.visual.resample`), grey levels multiplied in float64 and
normalised in float32.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from extractors.visual.resample import resample
from mer_store.errors import UsageError

CODE_VERSION = 2
"""Raised whenever the code here or in ``resample`` gives other numbers. Stored crops do not depend on it."""
FILTERS = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of the filters that are done here."""
TOGETHER = 16
"""Images prepared at once. Of more, the sums in float64 leave a CPU's caches; of fewer, its threads wait."""


@dataclass(frozen=True)
class Pixels:
    """How crops become a vision model's input, as its checkpoint says."""

    resize_px: int | tuple[int, int]
    """Of the shorter side, or height and width."""
    resample: str
    crop_px: tuple[int, int] | None
    """Height and width cut from the middle."""
    factor: float
    """Grey levels are multiplied by this."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Per colour, red first, after `factor`."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """JSON values for the spec."""
        values = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }
        return {**values, "code": CODE_VERSION}

    @property
    def height_width(self) -> tuple[int, int] | None:
        """Size of what comes out of square crops."""
        if self.crop_px is not None:
            return self.crop_px
        return (self.resize_px,) * 2 if isinstance(self.resize_px, int) else self.resize_px

    def __call__(self, crops: Tensor) -> Tensor:
        """Turn uint8 [N, H, W, 3], red first, into float32 [N, 3, height, width] on the same device."""
        return torch.cat(
            [self._prepare(part.permute(0, 3, 1, 2)) for part in torch.split(crops, TOGETHER)]
        )

    def _prepare(self, images: Tensor) -> Tensor:
        size = self._size_after(images.shape[2], images.shape[3])
        grey = self._cut(resample(images, size, self.resample))
        mean, std = (
            torch.tensor(values, device=grey.device).view(1, 3, 1, 1)
            for values in (self.mean, self.std)
        )
        return (grey * self.factor).to(torch.float32).sub_(mean).div_(std)

    def _size_after(self, height: int, width: int) -> tuple[int, int]:
        if not isinstance(self.resize_px, int):
            return self.resize_px
        longer = int(self.resize_px * max(height, width) / min(height, width))
        return (self.resize_px, longer) if height <= width else (longer, self.resize_px)

    def _cut(self, grey: Tensor) -> Tensor:
        if self.crop_px is None:
            return grey
        height, width = self.crop_px
        top, left = (grey.shape[2] - height) // 2, (grey.shape[3] - width) // 2
        return grey[:, :, top : top + height, left : left + width]


def pixels_of(folder: Path | None) -> Pixels:
    """Read a checkpoint's processor settings; None gives CLIP's own.

    Raises
    ------
    UsageError
        The folder has none, or asks for what is not done here.
    """
    from transformers import CLIPImageProcessorPil

    if folder is None:
        return _translate(CLIPImageProcessorPil(), "CLIP")
    try:
        processor = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"model {folder}: no readable preprocessor_config.json, expected the image processor's "
            f"settings beside the weights: {(str(error).splitlines() or [''])[0]}"
        ) from error
    return _translate(processor, f"model {folder}")


def _translate(processor: Any, where: str) -> Pixels:
    _require(processor, where)
    size = dict(processor.size)
    square = size.get("shortest_edge")
    resize_px = square if square is not None else (size["height"], size["width"])
    crop = dict(processor.crop_size)
    pixels = Pixels(
        resize_px=resize_px,
        resample=FILTERS[int(processor.resample)],
        crop_px=(crop["height"], crop["width"]) if processor.do_center_crop else None,
        factor=float(processor.rescale_factor) if processor.do_rescale else 1.0,
        mean=tuple(map(float, processor.image_mean)) if processor.do_normalize else (0.0,) * 3,
        std=tuple(map(float, processor.image_std)) if processor.do_normalize else (1.0,) * 3,
    )
    smallest = (resize_px, resize_px) if isinstance(resize_px, int) else resize_px
    if pixels.crop_px and (pixels.crop_px[0] > smallest[0] or pixels.crop_px[1] > smallest[1]):
        raise UsageError(
            f"{where}: preprocessor_config.json cuts {pixels.crop_px} out of images resized to {resize_px}"
        )
    return pixels


def _require(processor: Any, where: str) -> None:
    size = {key for key, value in dict(processor.size).items() if value is not None}
    if not processor.do_resize or size not in ({"shortest_edge"}, {"height", "width"}):
        raise UsageError(
            f"{where}: preprocessor_config.json: expected do_resize with a size of shortest_edge, or of "
            f"height and width; got do_resize {processor.do_resize}, size {sorted(size)}"
        )
    if int(processor.resample) not in FILTERS:
        raise UsageError(
            f"{where}: preprocessor_config.json: resample {processor.resample}: expected "
            f"{', '.join(f'{number} ({name})' for number, name in FILTERS.items())}"
        )
