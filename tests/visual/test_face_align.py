"""Crops: eyes in their places at any size and tilt, squares where the eyes say nothing."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extractors.visual.faces.align import EYES_APART, EYES_Y, crop_face, eyes_usable

SIDE = 224
LEFT_EYE = ((0.5 - EYES_APART / 2) * SIDE, EYES_Y * SIDE)
RIGHT_EYE = ((0.5 + EYES_APART / 2) * SIDE, EYES_Y * SIDE)


def face(eye_left, eye_right):
    """Return a box and points that fit two eyes."""
    eye_left, eye_right = np.array(eye_left, float), np.array(eye_right, float)
    middle, apart = (eye_left + eye_right) / 2, np.hypot(*(eye_right - eye_left))
    box = np.concatenate([middle - 1.2 * apart, middle + np.array([1.2, 1.8]) * apart])
    down = middle + np.array([0, apart])
    return np.float32(box), np.array([eye_left, eye_right, middle, down, down], np.float32)


def blobs(eyes, size=(800, 800), sigma=5.0):
    """Draw a bright spot at each place; red for the first, green for the second."""
    rows, columns = np.mgrid[0 : size[1], 0 : size[0]] + 0.5
    image = np.zeros((size[1], size[0], 3), np.uint8)
    for channel, (x, y) in enumerate(eyes):
        image[..., channel] = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return image


def spot(channel):
    """Return where the brightness of a channel has its centre, x and y."""
    weight = channel.astype(float)
    rows, columns = np.mgrid[0 : weight.shape[0], 0 : weight.shape[1]] + 0.5
    return (weight * columns).sum() / weight.sum(), (weight * rows).sum() / weight.sum()


@settings(max_examples=40, deadline=None)
@given(st.floats(300, 500), st.floats(300, 500), st.floats(30, 260), st.floats(-50, 50))
def test_eyes_come_to_their_places(x, y, apart, tilt):
    """From upscaled by two to shrunk by four first, upright or tilted."""
    half = apart / 2 * np.array([np.cos(np.radians(tilt)), np.sin(np.radians(tilt))])
    eyes = (np.array([x, y]) - half, np.array([x, y]) + half)
    box, points = face(*eyes)
    crop = crop_face(blobs(eyes, sigma=apart / 12), box, points, SIDE)
    np.testing.assert_allclose(spot(crop[..., 0]), LEFT_EYE, atol=0.8)
    np.testing.assert_allclose(spot(crop[..., 1]), RIGHT_EYE, atol=0.8)


@pytest.mark.parametrize("side", [112, 224])
def test_crops_have_the_side_asked_for_and_keep_the_colours(side):
    image = np.zeros((100, 100, 3), np.uint8)
    image[:] = (200, 100, 50)
    crop = crop_face(image, *face((45, 45), (55, 45)), side)
    assert crop.shape == (side, side, 3)
    assert crop.dtype == np.uint8
    assert tuple(crop[side // 2, side // 2]) == (200, 100, 50)


def test_large_face_does_not_alias():
    """Black and white columns one pixel wide become nearly even grey when shrunk."""
    image = np.zeros((1400, 1400, 3), np.uint8)
    image[:, ::2] = 255
    crop = crop_face(image, *face((500, 600), (900, 600)), SIDE)
    assert np.abs(crop[60:160, 60:160].astype(int) - 127).max() <= 127 // 5 + 1


def test_outside_the_image_is_black():
    image = np.full((100, 100, 3), 255, np.uint8)
    crop = crop_face(image, *face((5, 50), (35, 50)), SIDE)
    assert (crop[100, :10] == 0).all()
    assert (crop[100, 150] == 255).all()


def test_last_digits_of_a_detector_do_not_move_the_crop():
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 255, (300, 300, 3), np.uint8), (0, 0), 2)
    box, points = face((120, 130), (170, 135))
    first = crop_face(image, box, points, SIDE)
    moved = crop_face(image, box + np.float32(1e-3), points - np.float32(1e-3), SIDE)
    assert np.array_equal(first, moved)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        pytest.param((100, 100), (106, 100), id="profile: eyes nearly one"),
        pytest.param((130, 100), (100, 100), id="eyes the wrong way round"),
        pytest.param((110, 80), (115, 120), id="lying on the side"),
        pytest.param((40, 100), (130, 100), id="an eye outside the box"),
        pytest.param((0, 0), (0, 0), id="no points"),
        pytest.param((np.nan, np.nan), (np.nan, np.nan), id="unknown points"),
    ],
)
def test_without_usable_eyes_the_box_decides(left, right):
    """A square about the box's centre, 1.2 times its longer side, upright."""
    box = np.array([80, 60, 140, 160], np.float32)
    points = np.zeros((5, 2), np.float32)
    points[0], points[1] = left, right
    assert not eyes_usable(box, points)
    crop = crop_face(blobs([(110, 110), (110, 60)], (240, 220)), box, points, SIDE)
    np.testing.assert_allclose(spot(crop[..., 0]), (SIDE / 2, SIDE / 2), atol=0.8)
    top = SIDE / 2 - 50 * SIDE / 120
    np.testing.assert_allclose(spot(crop[..., 1]), (SIDE / 2, top), atol=0.8)


def test_box_without_size_still_gives_a_crop():
    box, points = np.full(4, 50, np.float32), np.zeros((5, 2), np.float32)
    assert crop_face(np.zeros((100, 100, 3), np.uint8), box, points, 112).shape == (112, 112, 3)
