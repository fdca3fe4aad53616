"""Preprocessing on tensors equals CLIP's own processor."""

import json

import numpy as np
import pytest
import skimage.data
import torch
from transformers import CLIPImageProcessorPil

from extractors.visual.pixels import pixels_of
from mer_store.errors import UsageError

PICTURE = skimage.data.astronaut()


def write(folder, **settings):
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def both(pixels, processor, image):
    """Return ours and the processor's as grey levels."""
    mine = pixels(torch.from_numpy(np.ascontiguousarray(image))[None])[0].numpy()
    theirs = processor(images=image, return_tensors="np")["pixel_values"][0]
    std, mean = np.reshape(pixels.std, (3, 1, 1)), np.reshape(pixels.mean, (3, 1, 1))
    return ((values * std + mean) / pixels.factor for values in (mine, theirs))


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(PICTURE[:224, 100:324], id="224: nothing to resize"),
        pytest.param(PICTURE[20:132, 170:282], id="112: twice as large, as OpenFace's crops"),
        pytest.param(PICTURE, id="512: smaller"),
        pytest.param(PICTURE[:300, :], id="wide"),
        pytest.param(PICTURE[:97, :101], id="odd"),
    ],
)
def test_grey_levels_equal_the_processors(image):
    mine, theirs = both(pixels_of(None), CLIPImageProcessorPil(), image)
    assert mine.shape == theirs.shape == (3, 224, 224)
    difference = np.abs(mine - theirs)
    assert difference.max() <= 1.001
    assert (difference < 1e-3).mean() >= 0.999


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
    mine, theirs = both(pixels, processor, PICTURE)
    assert np.abs(mine - theirs).max() <= 1.001
    assert mine.shape[1:] == pixels.height_width


def test_batches_equal_single_images():
    crops = torch.from_numpy(np.stack([PICTURE[i : i + 112, i : i + 112] for i in (0, 90, 200)]))
    pixels = pixels_of(None)
    together = pixels(crops)
    assert all(
        torch.equal(row, pixels(crop[None])[0]) for row, crop in zip(together, crops, strict=True)
    )


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
