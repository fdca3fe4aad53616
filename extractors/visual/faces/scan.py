"""What a pass over the images of a clip leaves: faces, whose they are, and crops."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extractors.contract import ClipEmpty
from extractors.media.images import Image
from extractors.visual.faces import align, track
from extractors.visual.faces.crops import Crops, HeldCrops, Table
from extractors.visual.faces.detector import N_POINTS, Detections, Rgb


@dataclass(frozen=True)
class Seen:
    """The faces of an image."""

    time_s: float
    faces: Detections
    numbers: NDArray[np.int64]
    """[F]: the track of each face."""


class Scan:
    """The faces of all images so far, whose they are, and their crops while they are few.

    Parameters
    ----------
    crop_px
        Side of the crops.
    max_held
        Beyond so many crops, of anybody, none is held.
    """

    def __init__(self, crop_px: int, max_held: int) -> None:
        self._crop_px, self._max_held = crop_px, max_held
        self._times_s: list[float] = []
        self._sizes: list[tuple[int, int]] = []
        self._found: list[Detections] = []
        self._numbers: list[NDArray[np.int64]] = []
        self._linker = track.Linker()
        self._crops: list[list[Rgb]] | None = []
        self._n_held = 0

    @property
    def duration_s(self) -> float:
        """From the first image to the end of the last, were they evenly spaced."""
        n_images = len(self._times_s)
        return self._times_s[-1] * n_images / (n_images - 1) if n_images > 1 else 0.0

    def add(
        self, image: Image, faces: Detections, numbers: NDArray[np.int64] | None = None
    ) -> None:
        """Take the next image and its faces, and whose they are where known; drop crops once too many."""
        if numbers is None:
            numbers = self._linker.see(faces.boxes, image.time_s)
        self._times_s.append(image.time_s)
        self._sizes.append((image.rgb.shape[1], image.rgb.shape[0]))
        self._found.append(faces)
        self._numbers.append(numbers)
        self._n_held += len(faces)
        if self._n_held > self._max_held:
            self._crops = None
        if self._crops is not None:
            self._crops.append(list(self._cut(image.rgb, faces)))

    @property
    def last(self) -> Seen | None:
        """What was seen in the last image."""
        if not self._found:
            return None
        return Seen(self._times_s[-1], self._found[-1], self._numbers[-1])

    def would_see(self, faces: Detections, time_s: float) -> NDArray[np.int64]:
        """Return whose the faces of an image would be, were it the next."""
        return self._linker.copy().see(faces.boxes, time_s)

    def _cut(self, image: Rgb, faces: Detections) -> Iterator[Rgb]:
        for box, points in zip(faces.boxes, faces.points, strict=True):
            yield align.crop_face(image, box, points, self._crop_px)

    def choose(self) -> Sequence[int]:
        """Return per image the face of the person chosen, -1 for none."""
        boxes = [faces.boxes for faces in self._found]
        person = track.choose_track(boxes, self._numbers, self._sizes)
        if person is None:
            raise ClipEmpty(f"no face: none in {len(boxes)} images")
        return [int(face) for face in track.faces_of_track(self._numbers, person)]

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
