"""Resizing on tensors equals Pillow's."""

import numpy as np
import PIL
import pytest
import torch
from PIL import Image

from extractors.visual.resample import resample

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
COLUMNS_FIRST = pytest.mark.skipif(
    int(PIL.__version__.split(".")[0]) < 13, reason="Pillow before 13 takes the rows first"
)


def noise(height, width, extreme=False):
    """Return uint8 [height, width, 3]; if extreme, black and white alone: sums go beyond 0 and 255."""
    rng = np.random.default_rng(height * 1000 + width)
    if extreme:
        return rng.integers(0, 2, (height, width, 3), np.uint8) * np.uint8(255)
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def ours(images, size, kernel):
    """Return what we make of images of one size, [N, height, width, 3]."""
    tensor = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return resample(tensor, size, kernel).permute(0, 2, 3, 1).numpy()


def pillows(image, size, kernel):
    return np.asarray(Image.fromarray(image).resize(size[::-1], FILTERS[kernel]))


@pytest.mark.parametrize("kernel", FILTERS)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param((56, 56), (112, 112), id="doubled"),
        pytest.param((150, 150), (112, 112), id="smaller"),
        pytest.param((160, 160), (7, 7), id="much smaller"),
        pytest.param((97, 31), (113, 64), id="odd"),
        pytest.param((60, 90), (41, 40), id="twice as much off the width"),
        pytest.param((90, 60), (40, 35), id="exactly twice as much off the height: rows first"),
        pytest.param((20, 33), (20, 50), id="width alone"),
        pytest.param((33, 20), (50, 20), id="height alone"),
        pytest.param((1, 1), (5, 3), id="one pixel"),
        pytest.param((40, 50), (1, 1), id="to one pixel"),
        pytest.param((91, 60), (40, 35), marks=COLUMNS_FIRST, id="more off the height"),
        pytest.param((60, 20), (59, 70), marks=COLUMNS_FIRST, id="lower and wider"),
        pytest.param((300, 9), (40, 8), marks=COLUMNS_FIRST, id="a strip"),
    ],
)
def test_all_values_equal_pillows(before, after, kernel):
    images = [noise(*before), noise(*before, extreme=True)]
    for made, image in zip(ours(images, after, kernel), images, strict=True):
        assert np.array_equal(made, pillows(image, after, kernel))


def test_sizes_drawn_by_chance_equal_pillows():
    rng = np.random.default_rng(0)
    for _ in range(40):
        side, after = (int(value) for value in rng.integers(2, 130, 2))
        image = noise(side, side)
        made = ours([image], (after, after), "bicubic")[0]
        assert np.array_equal(made, pillows(image, (after, after), "bicubic")), (side, after)


@pytest.mark.parametrize("n_images", [1, 2, 7])
def test_batch_changes_no_value(n_images):
    images = [noise(45, 50, extreme=number % 2 == 0) for number in range(n_images)]
    together = ours(images, (64, 71), "bicubic")
    for made, image in zip(together, images, strict=True):
        assert np.array_equal(made, ours([image], (64, 71), "bicubic")[0])


def test_order_of_memory_changes_no_value():
    tensor = torch.from_numpy(noise(40, 60)).permute(2, 0, 1)[None]
    assert torch.equal(
        resample(tensor, (56, 84), "bicubic"),
        resample(tensor.contiguous().double(), (56, 84), "bicubic"),
    )
