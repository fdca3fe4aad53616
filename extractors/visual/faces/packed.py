"""A clip's crops as one run of bytes: JPEG files one after the other, or the pixels as they are.

Layout, little-endian: seconds of media (float64), side of a crop in pixels, how many there are, the length of
each (int32), then their bytes, and zeros to the end of the last row.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors.visual.faces.detector import Rgb
from extractors.visual.faces.opencv import opencv

ROW_BYTES = 4096
"""Width of the rows that are stored."""
JPEG_QUALITY = 95
_HEAD = struct.Struct("<dii")
FORMATS = ("jpeg", "uint8")


def settings_of(kind: str) -> dict[str, Any]:
    """Return what decides the pixels that come back, as JSON values."""
    return {"format": kind} | ({"quality": JPEG_QUALITY} if kind == "jpeg" else {})


def pack(crops: Iterable[Rgb], kind: str, media_s: float) -> tuple[Rgb, NDArray[np.int32]]:
    """Return rows of bytes [T, 4096] and the length of each crop in bytes [n].

    Parameters
    ----------
    crops
        Pieces [n, H, W, 3], red first.
    kind
        One of `FORMATS`.
    media_s
        Seconds of media, kept with them.
    """
    side_px, files = 0, []
    for piece in crops:
        side_px = piece.shape[1]
        files += [_encode(crop, kind) for crop in piece]
    lengths = np.array([len(file) for file in files], "<i4")
    data = b"".join([_HEAD.pack(media_s, side_px, len(files)), lengths.tobytes(), *files])
    rows = np.zeros((-(-len(data) // ROW_BYTES), ROW_BYTES), np.uint8)
    rows.reshape(-1)[: len(data)] = np.frombuffer(data, np.uint8)
    return rows, lengths.astype(np.int32)


def unpack(rows: Rgb) -> tuple[Rgb, float]:
    """Return the crops [n, H, W, 3], red first, and the seconds of media.

    Raises
    ------
    ValueError
        The bytes are no such run.
    """
    data = rows.tobytes()
    media_s, side_px, n_crops = _HEAD.unpack_from(data)
    start = _HEAD.size + 4 * n_crops
    if n_crops < 1 or start > len(data):
        raise ValueError(f"{n_crops} crops in {len(data)} bytes")
    lengths = np.frombuffer(data, "<i4", n_crops, _HEAD.size).tolist()
    if min(lengths) < 1 or start + sum(lengths) > len(data):
        raise ValueError(f"crops of {sum(lengths)} bytes in {len(data)}")
    images = []
    for length in lengths:
        images.append(_decode(data[start : start + length], side_px))
        start += length
    return np.stack(images), float(media_s)


def _encode(crop: Rgb, kind: str) -> bytes:
    if kind == "uint8":
        return np.ascontiguousarray(crop).tobytes()
    cv2 = opencv()
    done, data = cv2.imencode(
        ".jpg", np.ascontiguousarray(crop[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    if not done:
        raise ValueError(f"a crop of shape {crop.shape} could not be written as JPEG")
    return bytes(data)


def _decode(data: bytes, side_px: int) -> Rgb:
    shape: Sequence[int] = (side_px, side_px, 3)
    if len(data) == side_px * side_px * 3:
        return np.frombuffer(data, np.uint8).reshape(shape)
    cv2 = opencv()
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None or image.shape != shape:
        raise ValueError("a crop that is no JPEG of its size")
    return np.ascontiguousarray(image[..., ::-1])
