"""Weights held in half precision give what autocast over float32 weights gives, bit for bit."""

import numpy as np
import pytest
import torch
from checkpoint_factory import save_hubert, save_hubert_base, save_wav2vec2, save_wavlm
from torch import nn
from transformers import AutoModel

from extractors.models.half import hold_products
from extractors.models.tiny import tiny_clip, tiny_hubert

HALF = torch.bfloat16


def held(model):
    hold_products(model, HALF)
    return model


@torch.inference_mode()
def states(model, *inputs):
    with torch.autocast("cpu", HALF):
        output = model(*inputs, output_hidden_states=True)
    return [*output.hidden_states, output[0]]


def same_bits(got, expected):
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == other.dtype
        assert np.isfinite(one.float().numpy()).all()
        assert torch.equal(one, other)


@pytest.mark.parametrize("save", [save_hubert, save_hubert_base, save_wav2vec2, save_wavlm])
def test_speech_models(save, tmp_path):
    folder = save(tmp_path / "model")
    samples = torch.randn(2, 6400)
    model = held(AutoModel.from_pretrained(folder).eval())
    same_bits(states(model, samples), states(AutoModel.from_pretrained(folder).eval(), samples))


def test_clip():
    pixels = torch.randn(2, 3, 224, 224)
    same_bits(states(held(tiny_clip().model), pixels), states(tiny_clip().model, pixels))


def test_products_are_held_in_half_and_norms_are_not():
    for module in held(tiny_hubert().model).modules():
        if isinstance(module, (nn.Linear, nn.Conv1d)):
            assert {parameter.dtype for parameter in module.parameters(recurse=False)} <= {HALF}
        if isinstance(module, nn.LayerNorm):
            assert module.weight.dtype == torch.float32


def test_in_float32_the_weights_are_the_same():
    model, untouched = tiny_hubert().model, tiny_hubert().model
    hold_products(model, torch.float32)
    samples = torch.randn(1, 6400)
    with torch.inference_mode():
        expected = untouched(samples).last_hidden_state
        assert torch.equal(model(samples).last_hidden_state, expected)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
