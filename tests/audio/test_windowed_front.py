"""Convolutions as products over windows give the model's own features."""

import pytest
import torch
from checkpoint_factory import save_hubert, save_wav2vec2, save_wavlm
from extractor_contract import relative
from transformers import AutoModel

from extractors.audio.front import WindowedFront
from extractors.models.half import hold_products


@pytest.fixture(params=[save_hubert, save_wav2vec2, save_wavlm])
def extractor(request, tmp_path):
    folder = request.param(tmp_path / "model")
    return AutoModel.from_pretrained(folder).eval().feature_extractor


@pytest.mark.parametrize("n_samples", [400, 401, 719, 720, 9_999])
def test_the_models_own_features(extractor, n_samples):
    samples = torch.randn(3, n_samples + 50)[:, 50:]  # not contiguous
    with torch.inference_mode():
        expected = extractor(samples).transpose(1, 2)
        got = WindowedFront(extractor)(samples)
    assert got.shape == expected.shape
    assert relative(got, expected) <= 1e-5


def test_in_half_precision_as_close_as_the_model(extractor):
    samples = torch.randn(2, 5_000)
    with torch.inference_mode():
        exact = extractor(samples).transpose(1, 2)
        with torch.autocast("cpu", torch.bfloat16):
            theirs = extractor(samples).transpose(1, 2).float()
            hold_products(extractor, torch.bfloat16)
            ours = WindowedFront(extractor)(samples).float()
    apart = (theirs - exact).norm() / exact.norm()
    assert 0 < (ours - exact).norm() / exact.norm() < 1.5 * apart
