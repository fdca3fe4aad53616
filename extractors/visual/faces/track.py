"""Several faces in a clip: link them over time and choose one person.

Pure functions on boxes and times. They know nothing of looks: where the picture cuts from one person to
another at the same place, the two are one track.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors.visual.faces.boxes import areas, centres, overlaps

MIN_OVERLAP = 0.3
"""Intersection over union that links a face to where its track is expected."""
MAX_GAP_S = 1.0
"""A track unseen for longer has ended."""
MAX_STEP = 0.75
"""Without overlap (fast, or few images a second): centres at most this part of a face's side apart..."""
MAX_GROWTH = 1.5
"""...and sides that differ by at most this factor."""
SPEED_MEMORY = 0.5
"""Part of a track's speed that is kept at each new sighting."""
SECOND_CHANCE = 0.5
"""Worth of a fit to where a track was, if none to where it was heading: heads also swing back."""
EDGE_WEIGHT = 0.5
"""Worth of a face in the image's corner, where one in the centre is worth 1."""

SETTINGS: Mapping[str, Any] = {
    "min_overlap": MIN_OVERLAP,
    "max_gap_s": MAX_GAP_S,
    "max_step": MAX_STEP,
    "max_growth": MAX_GROWTH,
    "speed_memory": SPEED_MEMORY,
    "second_chance": SECOND_CHANCE,
    "choice": "sum over images of sqrt(face area / image area) x centrality",
    "edge_weight": EDGE_WEIGHT,
}

Boxes = NDArray[np.floating[Any]]


@dataclass(slots=True)
class _Track:
    """Where one face was last seen and how it moves."""

    number: int
    box: Boxes
    speed: Boxes
    """[2] pixels a second."""
    time_s: float

    def expected(self, time_s: float) -> Boxes:
        """Return the box moved on at the track's speed."""
        step = self.speed * (time_s - self.time_s)
        moved: Boxes = self.box + np.concatenate([step, step])
        return moved

    def see(self, box: Boxes, time_s: float) -> None:
        """Take a new sighting."""
        passed_s = time_s - self.time_s
        if passed_s > 0:
            speed = (centres(box[None])[0] - centres(self.box[None])[0]) / passed_s
            self.speed = SPEED_MEMORY * self.speed + (1 - SPEED_MEMORY) * speed
        self.box, self.time_s = box, time_s


class Linker:
    """Gives the faces of image after image the numbers of their tracks."""

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._n_tracks = 0

    def see(self, boxes: Boxes, time_s: float) -> NDArray[np.int64]:
        """Return the track of each face [F] of the next image. A track has at most one face an image.

        Parameters
        ----------
        boxes
            [F, 4] in pixels; F may be 0.
        time_s
            Of the image, above that of the last.
        """
        found = boxes.astype(np.float64)
        self._tracks = [track for track in self._tracks if time_s - track.time_s <= MAX_GAP_S]
        of_image = _match(self._tracks, found, time_s)
        for face in np.flatnonzero(of_image < 0):
            self._tracks.append(_Track(self._n_tracks, found[face], np.zeros(2), time_s))
            of_image[face] = self._n_tracks
            self._n_tracks += 1
        return of_image

    def copy(self) -> "Linker":
        """Return another that knows the same, to try something with."""
        other = Linker()
        other._tracks, other._n_tracks = [replace(one) for one in self._tracks], self._n_tracks
        return other


def link_faces(boxes: Sequence[Boxes], times_s: Sequence[float]) -> list[NDArray[np.int64]]:
    """Give each face of a clip the number of its track.

    Parameters
    ----------
    boxes
        Per image [F, 4] in pixels; F may be 0 and differ.
    times_s
        Per image, ascending.

    Returns
    -------
    list of ndarray
        Per image [F]: the track of each face. A track has at most one face an image.
    """
    linker = Linker()
    return [linker.see(found, time_s) for found, time_s in zip(boxes, times_s, strict=True)]


def _match(tracks: Sequence[_Track], found: Boxes, time_s: float) -> NDArray[np.int64]:
    """Give each face its track's number or -1, best fits first, and move the tracks on."""
    numbers = np.full(len(found), -1)
    if not tracks or not len(found):
        return numbers
    moving = _fits(np.stack([track.expected(time_s) for track in tracks]), found)
    resting = _fits(np.stack([track.box for track in tracks]), found)
    fits = np.where(moving > 0, moving, SECOND_CHANCE * resting)
    placed: set[int] = set()
    for pair in np.argsort(-fits, axis=None, kind="stable"):
        row, face = divmod(int(pair), len(found))
        if fits[row, face] <= 0:
            break
        if row not in placed and numbers[face] < 0:
            placed.add(row)
            numbers[face] = tracks[row].number
            tracks[row].see(found[face], time_s)
    return numbers


def _fits(expected: Boxes, found: Boxes) -> Boxes:
    """Return how well each face fits each track [tracks, F]: overlap, else nearness below it, or 0."""
    shared = overlaps(expected, found)
    side = np.sqrt(np.maximum(areas(expected)[:, None], 1e-9)), np.sqrt(areas(found)[None])
    larger, smaller = np.maximum(*side), np.minimum(*side)
    step = np.linalg.norm(centres(expected)[:, None] - centres(found)[None], axis=2)
    near = (step <= MAX_STEP * smaller) & (larger <= MAX_GROWTH * smaller)
    nearness = MIN_OVERLAP * (1 - 0.5 * step / np.maximum(MAX_STEP * smaller, 1e-9))
    by_place: Boxes = np.where(near, np.minimum(nearness, MIN_OVERLAP), 0.0)
    return np.where(shared >= MIN_OVERLAP, shared, by_place)


def choose_track(
    boxes: Sequence[Boxes],
    numbers: Sequence[NDArray[np.int64]],
    image_sizes: Sequence[tuple[int, int]],
) -> int | None:
    """Return the track that is largest, most central and most present, None where there is no face.

    Parameters
    ----------
    boxes, numbers
        As given to and by `link_faces`.
    image_sizes
        Per image its width and height in pixels.
    """
    worth: dict[int, float] = {}
    for found, of_image, (width, height) in zip(boxes, numbers, image_sizes, strict=True):
        sizes = np.sqrt(areas(found) / (width * height))
        middle = np.array([width, height]) / 2
        away = np.linalg.norm(centres(found) - middle, axis=1) / np.linalg.norm(middle)
        gained = sizes * (1 - (1 - EDGE_WEIGHT) * away)
        for number, gain in zip(of_image, gained, strict=True):
            worth[int(number)] = worth.get(int(number), 0.0) + float(gain)
    return max(worth, key=lambda number: (worth[number], -number), default=None)


def faces_of_track(numbers: Sequence[NDArray[np.int64]], track: int | None) -> NDArray[np.int64]:
    """Return per image the index of the track's face, -1 where it is not seen: [N]."""
    return np.array(
        [
            int(np.flatnonzero(here == track)[0]) if (here == track).any() else -1
            for here in numbers
        ],
        dtype=np.int64,
    )
