"""Faces in images that the detector does not see."""

import numpy as np
import pytest

from extractors.contract import ClipEmpty
from extractors.media.images import Image
from extractors.visual.faces.detector import N_POINTS, Detections
from extractors.visual.faces.following import look_through
from extractors.visual.faces.scan import Scan

FPS = 25.0
SIDE = 40.0


def faces(*lefts):
    """Return faces of one size, each with its left edge at a place."""
    left = np.array(lefts, np.float32)
    top = np.full_like(left, 30)
    boxes = np.stack([left, top, left + SIDE, top + SIDE], axis=1)
    points = np.tile(boxes[:, None, :2] + SIDE / 2, (1, N_POINTS, 1))
    return Detections(boxes, np.full(len(left), 0.9, np.float32), points)


class Detector:
    """Knows where the faces are by the image's first pixel; counts what it sees."""

    def __init__(self, truth):
        self.truth, self.seen = truth, []

    def __call__(self, images):
        numbers = [int(image[0, 0, 0]) for image in images]
        self.seen += numbers
        return [self.truth[number] for number in numbers]


def followed(truth, every):
    """Return the table of a clip whose faces are `truth`, and the images that were detected in."""
    detector, scan = Detector(truth), Scan(16, 1000)
    images = [
        Image(number / FPS, np.full((120, 200, 3), number, np.uint8))
        for number in range(len(truth))
    ]
    look_through(iter(images), detector, scan, every)
    chosen = scan.choose()
    crops = scan.crops(chosen)
    assert len(crops) == sum(face >= 0 for face in chosen)
    return scan.table(chosen), detector.seen


def moving(n_images, step=2.0):
    return [faces(10 + step * number) for number in range(n_images)]


@pytest.mark.parametrize("n_images", [1, 2, 5, 6, 23])
@pytest.mark.parametrize("every", [2, 3, 5, 11])
def test_a_face_that_moves_evenly_is_found_everywhere(n_images, every):
    truth = moving(n_images)
    table, seen = followed(truth, every)
    np.testing.assert_allclose(table["box"], [one.boxes[0] for one in truth], atol=1e-3)
    np.testing.assert_array_equal(table["row"], np.arange(n_images))
    assert sorted(seen) == sorted({*range(0, n_images, every), n_images - 1})


def test_every_image_is_seen_by_default():
    table, seen = followed(moving(20), 1)
    assert seen == list(range(20))
    np.testing.assert_array_equal(table["n_faces"], 1)


def test_where_a_face_comes_or_goes_the_images_between_are_looked_at():
    truth = moving(20)
    for number in range(8, 12):
        truth[number] = Detections.none()
    table, seen = followed(truth, 5)
    there = [number for number in range(20) if not 8 <= number < 12]
    np.testing.assert_array_equal(np.flatnonzero(table["row"] >= 0), there)
    np.testing.assert_allclose(
        table["box"][there], [truth[number].boxes[0] for number in there], atol=1e-3
    )
    assert sorted(seen) == [0, *range(5, 16), 19]


def test_two_people_are_not_mixed_up():
    truth = [faces(10 + number, 120 - number) for number in range(16)]
    table, _ = followed(truth, 5)
    np.testing.assert_array_equal(table["n_faces"], 2)
    chosen = table["box"][:, 0]
    assert np.allclose(np.diff(chosen), 1, atol=1e-3) or np.allclose(np.diff(chosen), -1, atol=1e-3)


def test_no_face_at_all_is_empty():
    with pytest.raises(ClipEmpty, match="no face: none in 9 images"):
        followed([Detections.none()] * 9, 4)
