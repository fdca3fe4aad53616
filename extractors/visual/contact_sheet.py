"""A picture of what was found in a clip: images with the chosen face's box, the crops beside them."""

from collections.abc import Iterable

import numpy as np

from extractors.contract import Blob
from extractors.media.images import Image, decode_images
from extractors.visual.faces.align import crop_face
from extractors.visual.faces.crops import Table
from extractors.visual.faces.detector import Rgb
from extractors.visual.faces.opencv import opencv
from mer_store.errors import UsageError

BOX_COLOUR = (60, 220, 90)
DIMMED = 0.35
"""Brightness of an image that does not show the chosen face."""
BACKGROUND = 24
GAP_PX = 6


def draw_faces(
    video: Blob | Iterable[Image],
    table: Table,
    images_per_second: float | None = None,
    n_images: int = 12,
    n_columns: int = 3,
    height_px: int = 120,
) -> Rgb:
    """Draw a clip's faces.

    Parameters
    ----------
    video
        The clip, or its images.
    table
        The table ``images`` that lies beside its features.
    images_per_second
        As they were extracted; only where `video` is a blob.
    n_images
        How many images to show, evenly over the clip; all where it has fewer.
    n_columns
        Image and crop pairs side by side.
    height_px
        Of one image.

    Returns
    -------
    ndarray
        uint8 [H, W, 3], red first.

    Raises
    ------
    UsageError
        The images are not those the table speaks of.
    """
    images = decode_images(video, images_per_second) if isinstance(video, Blob) else video
    n_rows = len(table["row"])
    shown = set(np.linspace(0, n_rows - 1, min(n_images, n_rows)).round().astype(int).tolist())
    cells, n_seen = [], 0
    for index, image in enumerate(images):
        n_seen += 1
        if index in shown:
            cells.append(_cell(image, table, index, height_px))
    if n_seen != n_rows:
        raise UsageError(
            f"contact sheet: the table has {n_rows} images, the video {n_seen}; "
            "give the images_per_second it was extracted with"
        )
    return _sheet(cells, n_columns)


def _cell(image: Image, table: Table, index: int, height_px: int) -> Rgb:
    """Draw one image, its time, and beside it the crop."""
    cv2 = opencv()
    scale = height_px / image.rgb.shape[0]
    width_px = max(1, round(image.rgb.shape[1] * scale))
    small = cv2.resize(image.rgb, (width_px, height_px), interpolation=cv2.INTER_AREA)
    crop = np.full((height_px, height_px, 3), BACKGROUND, np.uint8)
    if table["row"][index] >= 0:
        left, top, right, bottom = (round(side * scale) for side in table["box"][index].tolist())
        cv2.rectangle(small, (left, top), (right, bottom), BOX_COLOUR, 2)
        points = table["points"][index].reshape(-1, 2)
        crop = crop_face(image.rgb, table["box"][index], points, height_px)
    else:
        small = (small * DIMMED).astype(np.uint8)
    said = f"{image.time_s:.2f} s"
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(
            small, said, (4, height_px - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, thickness
        )
    return np.concatenate([small, crop], axis=1)


def _sheet(cells: list[Rgb], n_columns: int) -> Rgb:
    """Lay the cells out in rows, with gaps."""
    height, width = cells[0].shape[0], max(cell.shape[1] for cell in cells)
    n_rows = -(-len(cells) // n_columns)
    size = (n_rows * (height + GAP_PX) + GAP_PX, n_columns * (width + GAP_PX) + GAP_PX, 3)
    sheet = np.full(size, BACKGROUND, np.uint8)
    for place, cell in enumerate(cells):
        row, column = divmod(place, n_columns)
        top, left = GAP_PX + row * (height + GAP_PX), GAP_PX + column * (width + GAP_PX)
        sheet[top : top + height, left : left + cell.shape[1]] = cell
    return sheet
