"""Cut a face out of an image: turned and scaled by the eyes, else a square about the box."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors.visual.faces.detector import Floats, Rgb
from extractors.visual.faces.opencv import opencv

EYES_Y = 0.42
"""Height of the eyes in the crop, as a part of its side."""
EYES_APART = 0.30
"""Distance of the eyes, as a part of the crop's side: forehead and chin are in."""
MIN_EYES_APART = 0.25
"""Below this part of the box's width (a profile) the distance says little of the face's size."""
MAX_EYES_APART = 0.80
MAX_TILT_DEGREES = 60.0
BOX_MARGIN = 1.2
"""Side of the square about a box, as a multiple of the box's longer side."""
GRID_PX = 1 / 8
"""Boxes and points are rounded to this: a detector's last digits do not move the crop."""

SETTINGS: Mapping[str, Any] = {
    "eyes_y": EYES_Y,
    "eyes_apart": EYES_APART,
    "usable_eyes_apart_of_box": [MIN_EYES_APART, MAX_EYES_APART],
    "usable_tilt_degrees": MAX_TILT_DEGREES,
    "box_margin": BOX_MARGIN,
    "grid_px": GRID_PX,
    "interpolation": "area by a whole factor, then linear; black outside",
}


def crop_face(image: Rgb, box: Floats, points: Floats, side_px: int) -> Rgb:
    """Cut one face.

    Parameters
    ----------
    image
        uint8 [H, W, 3].
    box, points
        [4] and [5, 2] in pixels, as in `Detections`.
    side_px
        Side of the crop.

    Returns
    -------
    ndarray
        uint8 [side_px, side_px, 3] in the image's order of colours, black where the image ends.
    """
    near_box, near_points = _to_grid(box), _to_grid(points)
    usable = eyes_usable(near_box, near_points)
    matrix = _from_eyes(near_points) if usable else _from_box(near_box)
    return _warp(image, matrix * side_px, side_px)


def eyes_usable(box: NDArray[Any], points: NDArray[Any]) -> bool:
    """Say whether the eyes can place the face: apart, nearly level and inside the box."""
    left, right = points[0], points[1]
    across, down = right - left
    width = max(float(box[2] - box[0]), 1e-6)
    apart = float(np.hypot(across, down)) / width
    level = across > 0 and abs(np.degrees(np.arctan2(down, across))) <= MAX_TILT_DEGREES
    inside = np.all((points[:2] >= box[:2]) & (points[:2] <= box[2:]))
    return bool(level and inside and MIN_EYES_APART <= apart <= MAX_EYES_APART)


def _to_grid(pixels: Floats) -> NDArray[np.float64]:
    return np.round(pixels.astype(np.float64) / GRID_PX) * GRID_PX


def _from_eyes(points: NDArray[Any]) -> NDArray[np.float64]:
    """Return the 2 x 3 map from image pixels to the unit square, the eyes in their places."""
    left, right = points[0], points[1]
    across, down = (right - left) * (EYES_APART / np.sum((right - left) ** 2))
    turn = np.array([[across, down], [-down, across]])
    shift = np.array([0.5, EYES_Y]) - turn @ ((left + right) / 2)
    return np.column_stack([turn, shift])


def _from_box(box: NDArray[Any]) -> NDArray[np.float64]:
    """Return the 2 x 3 map from image pixels to the unit square about the box, unturned."""
    side = max(BOX_MARGIN * float(max(box[2] - box[0], box[3] - box[1])), 1.0)
    shift = 0.5 - (box[:2] + box[2:]) / 2 / side
    return np.column_stack([np.eye(2) / side, shift])


def _warp(image: Rgb, matrix: NDArray[np.float64], side_px: int) -> Rgb:
    """Apply a map from image pixels to crop pixels; a large face is first shrunk, or it aliases."""
    cv2 = opencv()
    matrix = matrix.copy()
    shrink = int(1 / np.hypot(*matrix[:, 0]))
    if shrink > 1:
        image, origin = _around_crop(image, matrix, side_px, shrink)
        matrix[:, 2] += matrix[:, :2] @ origin
        size = (image.shape[1] // shrink, image.shape[0] // shrink)
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        matrix[:, :2] *= shrink
    # A pixel's centre lies at + 0.5 in our maps and at 0 in OpenCV's.
    matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
    crop: Rgb = cv2.warpAffine(image, matrix, (side_px, side_px), flags=cv2.INTER_LINEAR)
    return crop


def _around_crop(
    image: Rgb, matrix: NDArray[np.float64], side_px: int, multiple: int
) -> tuple[Rgb, NDArray[np.float64]]:
    """Cut out what the crop shows, sides a multiple of `multiple`; return it and its corner."""
    corners = np.array([[0, 0], [side_px, 0], [0, side_px], [side_px, side_px]], float)
    seen = np.linalg.solve(matrix[:, :2], (corners - matrix[:, 2]).T).T
    height, width = image.shape[:2]
    left, top = np.clip(np.floor(seen.min(0)) - multiple, 0, [width, height]).astype(int)
    right, bottom = np.clip(np.ceil(seen.max(0)) + multiple, 0, [width, height]).astype(int)
    part = image[top:bottom, left:right]
    below, beside = -part.shape[0] % multiple, -part.shape[1] % multiple
    return np.pad(part, ((0, below), (0, beside), (0, 0))), np.array([left, top], float)
