"""A clip's face from its video: detect in every image, follow the people, choose one, cut out.

Images are streamed. What stays are crops of the candidates while they are few, else places only; then a
second pass over the images makes the chosen person's crops.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from extractors.contract import Blob, ClipEmpty, Source
from extractors.media.images import IMAGE_RULE, Image, decode_images
from extractors.visual.faces import align, track
from extractors.visual.faces.crops import Crops, DecodedAgain, FaceClip, HeldCrops, Table
from extractors.visual.faces.detector import N_POINTS, Detections, FaceDetector, Rgb

DETECT_IMAGES = 8
"""Images that go to the detector at once: 50 MB at 1920 x 1080."""
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
    """

    def __init__(
        self,
        detector: FaceDetector,
        crop_px: int,
        images_per_second: float | None = None,
        max_held_crops: int = MAX_HELD_CROPS,
    ) -> None:
        self._detector = detector
        self._crop_px = crop_px
        self._images_per_second = images_per_second
        self._max_held = max_held_crops

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that decides the crops, as JSON values."""
        return {
            "source": "video",
            "images": IMAGE_RULE,
            "images_per_second": self._images_per_second,
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
        scan = _Scan(self._crop_px, self._max_held)
        images = decode_images(blob, self._images_per_second)
        while chunk := list(islice(images, DETECT_IMAGES)):
            scan.add(chunk, self._detector([image.rgb for image in chunk]))
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


class _Scan:
    """What a first pass over the images leaves."""

    def __init__(self, crop_px: int, max_held: int) -> None:
        self._crop_px, self._max_held = crop_px, max_held
        self._times_s: list[float] = []
        self._sizes: list[tuple[int, int]] = []
        self._found: list[Detections] = []
        self._crops: list[list[Rgb]] | None = []
        self._n_held = 0

    @property
    def duration_s(self) -> float:
        """From the first image to the end of the last, were they evenly spaced."""
        n_images = len(self._times_s)
        return self._times_s[-1] * n_images / (n_images - 1) if n_images > 1 else 0.0

    def add(self, images: Sequence[Image], found: Sequence[Detections]) -> None:
        """Take the next images and their faces; forget all crops once they are too many."""
        for image, faces in zip(images, found, strict=True):
            self._times_s.append(image.time_s)
            self._sizes.append((image.rgb.shape[1], image.rgb.shape[0]))
            self._found.append(faces)
            self._n_held += len(faces)
            if self._n_held > self._max_held:
                self._crops = None
            if self._crops is not None:
                self._crops.append(list(self._cut(image.rgb, faces)))

    def _cut(self, image: Rgb, faces: Detections) -> Iterator[Rgb]:
        for box, points in zip(faces.boxes, faces.points, strict=True):
            yield align.crop_face(image, box, points, self._crop_px)

    def choose(self) -> Sequence[int]:
        """Return per image the face of the person chosen, -1 for none."""
        boxes = [faces.boxes for faces in self._found]
        numbers = track.link_faces(boxes, self._times_s)
        person = track.choose_track(boxes, numbers, self._sizes)
        if person is None:
            raise ClipEmpty(f"no face: none in {len(boxes)} images")
        return [int(face) for face in track.faces_of_track(numbers, person)]

    def crops(self, chosen: Sequence[int]) -> Crops | None:
        """Return the chosen crops, None where they were not held."""
        if self._crops is None:
            return None
        kept = [
            of_image[face] for of_image, face in zip(self._crops, chosen, strict=True) if face >= 0
        ]
        return HeldCrops(np.stack(kept))

    def table(self, chosen: Sequence[int]) -> Table:
        """Return the facts stored beside the features."""
        n_images = len(chosen)
        box, points = (
            np.zeros((n_images, 4), np.float32),
            np.zeros((n_images, N_POINTS, 2), np.float32),
        )
        score, row = np.zeros(n_images, np.float32), np.full(n_images, -1, np.int32)
        seen = [image for image, face in enumerate(chosen) if face >= 0]
        for rank, image in enumerate(seen):
            faces, face = self._found[image], chosen[image]
            box[image], points[image] = faces.boxes[face], faces.points[face]
            score[image], row[image] = faces.scores[face], rank
        return {
            "time_s": np.array(self._times_s, np.float64),
            "box": box,
            "points": points.reshape(n_images, -1),
            "score": score,
            "n_faces": np.array([len(faces) for faces in self._found], np.int16),
            "row": row,
        }
