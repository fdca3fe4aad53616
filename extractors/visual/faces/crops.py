"""The face crops of one clip, held in memory or made again from its images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from extractors.contract import Blob, ClipFailed
from extractors.media.images import decode_images
from extractors.visual.faces.align import crop_face
from extractors.visual.faces.detector import Floats, Rgb

Table = Mapping[str, NDArray[Any]]


class Crops(Protocol):
    """A clip's crops in the order of time."""

    def __len__(self) -> int:
        """Count them, without making them."""

    def chunks(self, n_images: int) -> Iterator[Rgb]:
        """Yield uint8 [n, H, W, 3], red first, `n_images` at most at once."""


@dataclass(frozen=True)
class FaceClip:
    """What is known of a clip's faces when it is ready for the model."""

    crops: Crops
    table: Table | None
    """One row an image, as `extractors.visual.faces.video` describes; None for crops made elsewhere."""
    media_s: float


@dataclass(frozen=True)
class HeldCrops:
    """Crops in memory (or mapped from a file)."""

    images: Rgb
    """uint8 [n, H, W, 3]."""
    blue_first: bool = False

    def __len__(self) -> int:
        """Count the crops."""
        return len(self.images)

    def chunks(self, n_images: int) -> Iterator[Rgb]:
        """Yield slices."""
        for start in range(0, len(self.images), n_images):
            part = self.images[start : start + n_images]
            yield np.ascontiguousarray(part[..., ::-1] if self.blue_first else part)


@dataclass(frozen=True)
class DecodedAgain:
    """Crops of a clip too long to hold: a second pass over its images, at the places the first found."""

    blob: Blob
    images_per_second: float | None
    rows: Sequence[int]
    """Per image its row, or -1 where it gives none."""
    boxes: Floats
    """[n, 4] per image."""
    points: Floats
    """[n, 5, 2] per image."""
    side_px: int

    def __len__(self) -> int:
        """Count the crops."""
        return sum(row >= 0 for row in self.rows)

    def chunks(self, n_images: int) -> Iterator[Rgb]:
        """Decode, and yield crops as they come. Raises `ClipFailed` where the images are others now."""
        held: list[Rgb] = []
        for crop in self._crops():
            held.append(crop)
            if len(held) == n_images:
                yield np.stack(held)
                held = []
        if held:
            yield np.stack(held)

    def _crops(self) -> Iterator[Rgb]:
        images = decode_images(self.blob, self.images_per_second)
        for index, (image, row) in enumerate(zip_longest(images, self.rows)):
            if image is None or row is None:
                raise ClipFailed("the file changed while it was read: another number of images")
            if row >= 0:
                yield crop_face(image.rgb, self.boxes[index], self.points[index], self.side_px)
