"""The vision tower against CLIP as its own library runs it."""

import numpy as np
import pytest
import torch
from extractor_contract import relative
from visual.clip_folders import (
    IMAGE_PX,
    N_BLOCKS,
    PROJECTED,
    WIDTH,
    Reference,
    edit_config,
    save_clip,
)

from extractors.visual.clip import EMBED, describe_model
from mer_store.errors import UsageError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("models") / "clip-small")


@pytest.fixture(scope="module")
def described(folder):
    return describe_model(str(folder))


@pytest.fixture
def tower(described):
    return described.load(CPU, torch.float32)


def images(n=5, side=90):
    return np.random.default_rng(1).integers(0, 255, (n, side, side, 3), np.uint8)


def pixels(described, crops):
    return described.pixels(torch.from_numpy(crops))


def test_embed_is_clips_image_features(folder, described, tower):
    crops = images()
    batch = pixels(described, crops)
    rows = tower(batch, [EMBED])[EMBED]
    reference = Reference(folder)
    assert torch.equal(batch, torch.cat([reference.pixels(crop) for crop in crops]))
    assert rows.shape == (5, PROJECTED)
    assert relative(rows, reference.embed(crops)) <= 1e-5
    assert np.abs(np.linalg.norm(rows, axis=1) - 1).min() > 0.05, "must not be normalised"


def test_hidden_layers_are_the_class_token_of_hidden_states(folder, described, tower):
    batch = pixels(described, images())
    layers = described.layers
    got, expected = tower(batch, layers), Reference(folder).hidden(batch)
    assert layers == (*range(N_BLOCKS + 1), EMBED)
    assert len(expected) == N_BLOCKS + 1
    for layer in range(N_BLOCKS + 1):
        assert got[layer].shape == (5, WIDTH)
        assert relative(got[layer], expected[layer]) <= 1e-5


@pytest.mark.parametrize(("layers", "n_run"), [((0,), 0), ((2,), 2), ((1, 4), 4), ((1, EMBED), 6)])
def test_blocks_above_the_highest_wanted_are_not_run(described, tower, layers, n_run):
    ran = []
    for block in tower._model.vision_model.encoder.layers:
        block.register_forward_hook(lambda *_: ran.append(1))
    states = tower(pixels(described, images(2)), layers)
    assert len(ran) == n_run
    assert tuple(states) == layers


def test_widths_are_known_before_the_weights(described, tower):
    states = tower(pixels(described, images(1)), described.layers)
    assert {layer: rows.shape[1] for layer, rows in states.items()} == described.widths


def test_projection_width_is_the_whole_models(folder, tmp_path):
    """The vision tower's own entry is absent in older configs, and 512 is then assumed."""
    copy = save_clip(tmp_path / "old")
    edit_config(copy, lambda config: config["vision_config"].pop("projection_dim"))
    described = describe_model(str(copy))
    assert described.widths[EMBED] == PROJECTED
    batch = pixels(described, images(2))
    expected = describe_model(str(folder)).load(CPU, torch.float32)(batch, [EMBED])[EMBED]
    assert np.array_equal(described.load(CPU, torch.float32)(batch, [EMBED])[EMBED], expected)


def test_wrong_projection_width_is_refused(tmp_path):
    copy = save_clip(tmp_path / "wrong")
    edit_config(copy, lambda config: config.update(projection_dim=PROJECTED + 8))
    with pytest.raises(UsageError, match=r"other shapes than its config\.json.*projection_dim 32"):
        describe_model(str(copy)).load(CPU, torch.float32)


def test_vision_tower_alone_is_as_good(folder, described, tower, tmp_path):
    alone = describe_model(str(save_clip(tmp_path / "alone", whole=False)))
    batch = pixels(described, images(2))
    for layer, rows in alone.load(CPU, torch.float32)(batch, described.layers).items():
        assert np.array_equal(rows, tower(batch, [layer])[layer])


def test_other_models_are_refused(tmp_path):
    copy = save_clip(tmp_path / "other")
    edit_config(copy, lambda config: config.update(model_type="siglip"))
    with pytest.raises(
        UsageError, match=r"expected a CLIP \(model_type clip.*got model_type 'siglip'"
    ):
        describe_model(str(copy))


def test_processor_of_another_size_is_refused(tmp_path):
    copy = save_clip(tmp_path / "size", processor={"size": 32, "crop_size": 32})
    with pytest.raises(UsageError, match=rf"\({IMAGE_PX}, {IMAGE_PX}\) pixels.*\(32, 32\)"):
        describe_model(str(copy))


def test_too_little_memory_halves_the_batch_for_good(described, tower, monkeypatch):
    batch = pixels(described, images(7))
    expected = tower(batch, [EMBED])[EMBED]
    tried, encode = [], tower._encode

    def small_gpu(part, layers):
        tried.append(len(part))
        if len(part) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(part, layers)

    monkeypatch.setattr(tower, "_encode", small_gpu)
    assert relative(tower(batch, [EMBED])[EMBED], expected) <= 1e-5
    assert tried == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    tried.clear()
    assert relative(tower(batch, [EMBED])[EMBED], expected) <= 1e-5
    assert tried == [1] * 7


def test_one_image_too_many_is_an_error(described, tower, monkeypatch):
    def no_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(tower, "_encode", no_memory)
    with pytest.raises(torch.OutOfMemoryError, match="no memory on cpu for an image of 64 pixels"):
        tower(pixels(described, images(3)), [EMBED])


def test_half_precision_is_near_and_comes_as_float32(described, tower):
    batch = pixels(described, images(2))
    half = described.load(CPU, torch.bfloat16)(batch, [EMBED, 3])
    for layer, rows in half.items():
        assert rows.dtype == np.float32
        assert 0 < relative(rows, tower(batch, [layer])[layer]) < 0.2


def test_tiny_needs_no_file():
    tiny = describe_model("tiny")
    assert not tiny.trained
    assert tiny.widths[EMBED] == 64
    assert describe_model("tiny").weights == tiny.weights


def test_batches_are_sized_to_the_memory_there_is(described, monkeypatch):
    assert described.images_that_fit(CPU) == 32
    gpu = torch.device("cuda", 0)
    for free, expected in ((10**12, 256), (2 * 10**6, 24), (0, 1)):
        monkeypatch.setattr("extractors.models.memory.free_bytes", lambda device, free=free: free)
        assert described.images_that_fit(gpu) == expected


def test_a_layers_rows_keep_no_other_tokens_alive(described, tower):
    for rows in tower(pixels(described, images(3)), described.layers).values():
        assert rows.base is None or rows.base.nbytes == rows.nbytes


def test_weights_too_large_for_the_device_are_no_clips_fault(described, monkeypatch):
    def too_large(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("extractors.visual.clip._load", too_large)
    with pytest.raises(
        UsageError, match="its weights in bfloat16 do not fit into the memory of cpu"
    ):
        described.load(CPU, torch.bfloat16)
