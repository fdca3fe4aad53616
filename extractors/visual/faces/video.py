"""A clip's face from its video: detect in every image, follow the people, choose one, cut out.

Images are streamed. What stays are crops of the candidates while they are few, else places only; then a
second pass over the images makes the chosen person's crops.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from extractors.contract import Blob, Source
from extractors.media.images import IMAGE_RULE, decode_images
from extractors.visual.faces import align, track
from extractors.visual.faces.crops import Crops, DecodedAgain, FaceClip, HeldCrops, Table
from extractors.visual.faces.detector import N_POINTS, FaceDetector
from extractors.visual.faces.following import DETECT_IMAGES, look_through
from extractors.visual.faces.scan import Scan

MAX_HELD_CROPS = 1024
"""Crops one clip may hold: 154 MB at 224 pixels, 40 seconds of one face."""


class VideoFaces:
    """Faces found by a detector in a video.

    Parameters
    ----------
    detector
        What finds them; called from the threads that load clips.
    crop_px
        Side of the crops.
    images_per_second
        None looks at every image.
    max_held_crops
        Beyond it a clip's images are decoded a second time.
    detect_every
        Images from one that the detector sees to the next; between them faces are followed.
    """

    def __init__(
        self,
        detector: FaceDetector,
        crop_px: int,
        images_per_second: float | None = None,
        max_held_crops: int = MAX_HELD_CROPS,
        detect_every: int = 1,
    ) -> None:
        self._detector = detector
        self._crop_px = crop_px
        self._images_per_second = images_per_second
        self._max_held = max_held_crops
        self._detect_every = detect_every

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that decides the crops, as JSON values."""
        return {
            "source": "video",
            "images": IMAGE_RULE,
            "images_per_second": self._images_per_second,
            **({"detect_every": self._detect_every} if self._detect_every > 1 else {}),
            "detector": dict(self._detector.settings),
            "track": dict(track.SETTINGS),
            "align": dict(align.SETTINGS),
            "crop_px": self._crop_px,
        }

    def path(self, source: Source) -> Path | None:
        """Return the video."""
        return source.path

    def find(self, blob: Blob) -> FaceClip:
        """Find the clip's face.

        Returns
        -------
        FaceClip
            Its table has one row per decoded image: ``time_s``, ``box`` [4] and ``points`` [10] (x, y of
            five) in pixels, ``score``, ``n_faces`` (of anybody), ``row`` of the image in the frame-level
            features. Where the chosen person is not seen, ``row`` is -1 and box, points and score are 0.

        Raises
        ------
        ClipEmpty
            No image shows a face.
        ClipFailed
            The video cannot be decoded.
        """
        scan = Scan(self._crop_px, self._max_held)
        images = decode_images(blob, self._images_per_second)
        look_through(images, self._detector, scan, self._detect_every)
        chosen = scan.choose()
        table = scan.table(chosen)
        crops = scan.crops(chosen) or self._again(blob, table)
        return FaceClip(crops, table, scan.duration_s)

    def _again(self, blob: Blob, table: Table) -> Crops:
        again = DecodedAgain(
            blob, self._images_per_second, list(table["row"]), table["box"],
            table["points"].reshape(-1, N_POINTS, 2), self._crop_px,
        )  # fmt: skip
        if len(again) > self._max_held:
            return again
        return HeldCrops(np.concatenate(list(again.chunks(DETECT_IMAGES))))
