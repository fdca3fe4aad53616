"""Crops as one run of bytes: what comes back, and what is refused."""

import numpy as np
import pytest

from extractors.visual.faces.packed import ROW_BYTES, pack, unpack

CROPS = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), np.uint8)


def test_pixels_kept_as_they_are_come_back():
    rows, lengths = pack([CROPS[:2], CROPS[2:]], "uint8", 1.5)
    assert (rows.shape[1], rows.dtype) == (ROW_BYTES, np.uint8)
    assert lengths.tolist() == [24 * 24 * 3] * 3
    images, media_s = unpack(rows)
    assert media_s == 1.5
    np.testing.assert_array_equal(images, CROPS)


def test_jpegs_come_back_nearly_as_they_were():
    smooth = np.broadcast_to(np.linspace(20, 220, 24).astype(np.uint8)[None, :, None], (24, 24, 3))
    rows, _ = pack([smooth[None]], "jpeg", 0.0)
    images, _ = unpack(rows)
    assert np.abs(images[0].astype(int) - smooth).max() <= 4


@pytest.mark.parametrize("place", [8, 12, 16])
@pytest.mark.parametrize("value", [0, 255])
def test_other_bytes_are_refused(place, value):
    rows, _ = pack([CROPS], "jpeg", 0.0)
    rows.reshape(-1)[place : place + 4] = value
    with pytest.raises(ValueError, match=r"crop"):
        unpack(rows)
