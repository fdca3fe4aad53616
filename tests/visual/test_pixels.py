"""Preprocessing on tensors equals CLIP's own processor."""

import json

import numpy as np
import pytest
import skimage.data
import torch
from transformers import CLIPImageProcessorPil

from extractors.visual.pixels import TOGETHER, pixels_of
from mer_store.errors import UsageError

PICTURE = skimage.data.astronaut()


def write(folder, **settings):
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def both(pixels, processor, images):
    """Return what ours and the processor make of images of one size."""
    mine = pixels(torch.from_numpy(images)).numpy()
    theirs = processor(images=list(images), return_tensors="np")["pixel_values"]
    return mine, np.stack(list(theirs))


def picture_and_noise(height, width):
    """Return uint8 [2, height, width, 3]; the noise is all black and white, beyond which sums go."""
    top, left = (512 - height) // 2, (512 - width) // 2
    noise = np.random.default_rng(height).integers(0, 2, (height, width, 3), np.uint8) * 255
    return np.stack([PICTURE[top : top + height, left : left + width], noise])


@pytest.mark.parametrize(
    ("height", "width"),
    [
        pytest.param(224, 224, id="nothing to resize"),
        pytest.param(112, 112, id="twice as large, as OpenFace's crops"),
        pytest.param(300, 300, id="smaller"),
        pytest.param(512, 512, id="much smaller"),
        pytest.param(97, 97, id="odd"),
        pytest.param(97, 101, id="odd, not square"),
        pytest.param(300, 512, id="wide"),
        pytest.param(400, 300, id="high"),
        pytest.param(224, 400, id="wide, only cut"),
        pytest.param(5, 5, id="tiny"),
    ],
)
def test_values_equal_the_processors(height, width):
    images = picture_and_noise(height, width)
    mine, theirs = both(pixels_of(None), CLIPImageProcessorPil(), images)
    assert mine.shape == (2, 3, 224, 224)
    assert mine.dtype == theirs.dtype == np.float32
    assert np.array_equal(mine, theirs)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"size": 64, "crop_size": 64, "resample": 3}, id="as published in 2021"),
        pytest.param(
            {"size": {"shortest_edge": 80}, "crop_size": {"height": 64, "width": 48}}, id="cut"
        ),
        pytest.param(
            {"size": {"height": 50, "width": 70}, "do_center_crop": False}, id="both sides"
        ),
        pytest.param(
            {"size": {"shortest_edge": 64}, "crop_size": 64, "resample": 2}, id="bilinear"
        ),
        pytest.param(
            {"size": 64, "crop_size": 64, "image_mean": [0.5] * 3, "image_std": [0.5, 0.4, 0.3]},
            id="other mean",
        ),
        pytest.param({"size": 64, "crop_size": 64, "do_normalize": False}, id="not normalised"),
        pytest.param({"size": 64, "crop_size": 64, "rescale_factor": 1 / 127}, id="other factor"),
    ],
)
def test_settings_come_from_the_checkpoint(tmp_path, settings):
    pixels = pixels_of(write(tmp_path, **settings))
    processor = CLIPImageProcessorPil.from_pretrained(tmp_path)
    mine, theirs = both(pixels, processor, PICTURE[None])
    assert np.array_equal(mine, theirs)
    assert mine.shape[2:] == pixels.height_width


def test_batches_equal_single_images():
    crops = torch.from_numpy(
        np.stack([PICTURE[i : i + 56, i : i + 56] for i in range(TOGETHER + 3)])
    )
    pixels = pixels_of(None)
    assert torch.equal(pixels(crops), torch.cat([pixels(crop[None]) for crop in crops]))


def test_no_image_gives_none():
    assert pixels_of(None)(torch.empty((0, 56, 56, 3), dtype=torch.uint8)).shape == (0, 3, 224, 224)


def test_settings_are_json_and_tell_checkpoints_apart(tmp_path):
    first = pixels_of(None).settings
    second = pixels_of(write(tmp_path, size=64, crop_size=64)).settings
    assert json.loads(json.dumps(first)) == first != second


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"resample": 1}, r"resample 1: expected 2 \(bilinear\), 3 \(bicubic\)"),
        ({"do_resize": False}, "do_resize False"),
        ({"size": {"longest_edge": 64}}, "expected do_resize with a size"),
        ({"size": 64, "crop_size": 80}, r"cuts \(80, 80\) out of images resized to 64"),
    ],
)
def test_what_is_not_done_here_is_refused(tmp_path, settings, words):
    with pytest.raises(UsageError, match=words):
        pixels_of(write(tmp_path, **settings))


def test_missing_settings_are_named(tmp_path):
    with pytest.raises(UsageError, match=r"no readable preprocessor_config\.json"):
        pixels_of(tmp_path)
