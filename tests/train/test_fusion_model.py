"""Attention: the paper's equations against NumPy; a modality that a clip lacks has no say."""

import numpy as np
import pytest
import torch

from pipelines.train.fusion_model import Attention, Fusions, FusionShape, drop_modalities
from pipelines.train.lanes import Lane
from pipelines.train.stacked import Standardise, lane_streams
from pipelines.train.streams import stream

NONE = np.zeros(0, np.int64)
LANES = [Lane(0, fold, 1, NONE, NONE, NONE) for fold in range(2)]
STREAMS = lane_streams(LANES)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_attention_is_the_paper_s():
    attention = Attention(5, 3, STREAMS)
    with torch.no_grad():
        attention.bias.copy_(torch.randn(2, 1, 3, generator=stream("bias")))
    h = torch.randn(2, 4, 3, 5, generator=stream("h"))
    z, alpha = attention(h, torch.ones(2, 4, 3, dtype=torch.bool))
    for model in range(2):
        w, b = attention.weight[model].detach().numpy(), attention.bias[model, 0].detach().numpy()
        for clip in range(4):
            stacked = h[model, clip].numpy().T  # h [hidden, M]
            expected = softmax((stacked.T @ w)[:, 0] + b)  # alpha = softmax(h^T W + b)
            assert alpha[model, clip].detach().numpy() == pytest.approx(expected, abs=1e-6)
            assert z[model, clip].detach().numpy() == pytest.approx(stacked @ expected, abs=1e-5)


def test_a_number_for_each_modality_is_more_than_one_for_all():
    attention = Attention(5, 2, STREAMS)
    h, present = (
        torch.randn(2, 1, 2, 5, generator=stream("h")),
        torch.ones(2, 1, 2, dtype=torch.bool),
    )
    _, before = attention(h, present)
    with torch.no_grad():
        attention.bias.add_(3.0)
    assert torch.allclose(attention(h, present)[1], before)  # one number for all cancels
    with torch.no_grad():
        attention.bias[:, :, 0] += 3.0
    assert (attention(h, present)[1][..., 0] > before[..., 0]).all()


def fusions():
    scales = [Standardise.nothing(2, (1, width)) for width in (6, 4, 3)]
    return Fusions(FusionShape((6, 4, 3), 8, 2, 5), scales, torch.zeros(2), STREAMS)


def test_an_absent_modality_has_weight_zero_and_its_values_change_nothing():
    model = fusions()
    inputs = [torch.randn(2, 7, 1, width, generator=stream(width)) for width in (6, 4, 3)]
    present = torch.ones(2, 7, 3, dtype=torch.bool)
    present[:, ::2, 1] = False
    present[:, 1, [0, 2]] = False
    logits, alpha = model(inputs, present)
    assert (alpha[~present] == 0).all()
    assert torch.allclose(alpha.sum(dim=-1), torch.ones(2, 7))
    assert (alpha[:, 1, 1] == 1).all()
    garbage = [x.clone() for x in inputs]
    for number in range(3):
        garbage[number][~present[..., number]] = 1e4
    again, alpha_again = model(garbage, present)
    assert torch.equal(logits, again)
    assert torch.equal(alpha, alpha_again)


def test_gradients_of_absent_modalities_are_zero_not_nan():
    model = fusions()
    inputs = [torch.randn(2, 3, 1, width, generator=stream(width)) for width in (6, 4, 3)]
    present = torch.tensor([True, False, False]).expand(2, 3, 3)
    model(inputs, present)[0].square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert model.encoders[1].layers[0].weight.grad.abs().max() == 0
    assert model.encoders[0].layers[0].weight.grad.abs().max() > 0


def test_clips_that_all_models_see_give_what_each_gives():
    model = fusions()
    for number, scale in enumerate(model.standardise):
        scale.mean.copy_(torch.randn(scale.mean.shape, generator=stream("mean", number)))
        scale.scale.copy_(torch.rand(scale.scale.shape, generator=stream("scale", number)) + 0.5)
    inputs = [torch.randn(9, 1, width, generator=stream(width)) for width in (6, 4, 3)]
    present = torch.rand(9, 3, generator=stream("present")) < 0.6
    present[:, 0] |= ~present.any(dim=1)
    each = model([x.expand(2, *x.shape) for x in inputs], present.expand(2, 9, 3))
    for one, other in zip(model.on_shared(inputs, present), each, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_one_modality_always_stays():
    present = torch.rand(3, 400, 3, generator=stream("present")) < 0.7
    present[..., 0] |= ~present.any(dim=-1)
    noise = torch.rand(3, 400, 3, generator=stream("noise"))
    kept = drop_modalities(present, noise, 0.6)
    assert (kept & ~present).sum() == 0
    assert kept.any(dim=-1).all()
    many = present.sum(dim=-1) == 3
    share = 1 - kept[many].float().mean().item()
    assert 0.45 < share < 0.6  # somewhat below the rate: the last one is never dropped
    assert torch.equal(drop_modalities(present, noise, 0.0), present)
