"""What a face detector is, and the detectors there are.

Shape letters: N images, F faces of one image, H and W pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from mer_store.errors import UsageError

Rgb = NDArray[np.uint8]
"""One image: uint8 [H, W, 3], red first."""
Floats = NDArray[np.float32]

N_POINTS = 5


@dataclass(frozen=True, slots=True)
class Detections:
    """The faces of one image, in pixels of that image, best score first."""

    boxes: Floats
    """[F, 4]: left, top, right, bottom."""
    scores: Floats
    """[F], 0 to 1."""
    points: Floats
    """[F, 5, 2] x and y: the eye at the image's left, the other, nose, mouth corners likewise."""

    def __len__(self) -> int:
        """Count the faces."""
        return len(self.scores)

    @classmethod
    def none(cls) -> "Detections":
        """Return what is said of an image without a face."""
        return cls(
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.float32),
            np.zeros((0, N_POINTS, 2), np.float32),
        )


class FaceDetector(Protocol):
    """Finds faces. Called from several threads; an image's faces never depend on its neighbours."""

    settings: Mapping[str, Any]
    """All that decides its numbers, as JSON values: they go into the spec."""

    def __call__(self, images: Sequence[Rgb]) -> list[Detections]:
        """Return one `Detections` an image, in order. Images may differ in size."""


DETECTORS = {
    "centerface": "extractors.visual.faces.centerface:CenterFace",
    "pyfeat": "extractors.visual.faces.pyfeat:PyFeat",
}


def build_detector(name: str, device: str) -> FaceDetector:
    """Build the detector called `name`; ``name:FOLDER`` takes its weights from a folder.

    Raises
    ------
    UsageError
        There is no such detector, or what it needs is not installed.
    """
    kind, _, folder = name.partition(":")
    if kind not in DETECTORS:
        raise UsageError(f"faces {name!r}: expected one of {', '.join(DETECTORS)}, openface")
    module, _, attribute = DETECTORS[kind].partition(":")
    build = cast("Callable[..., FaceDetector]", getattr(import_module(module), attribute))
    return build(device=device, weights=folder or None)
