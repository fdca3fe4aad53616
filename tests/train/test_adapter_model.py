"""What is trained around the adapters: the head and its losses, against NumPy."""

import numpy as np
import pytest
import torch
from checkpoint_factory import save_hubert

from extractors.models.adapter import AdaptedBlocks, OutputAdapters, load_blocks
from extractors.models.speech import open_model
from pipelines.train.adapter_data import cut_by_length
from pipelines.train.adapter_model import AdapterModel, Head, adapter_losses

WIDTH, N_CLASSES, LAYERS = 32, 3, (4, 5, 6)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def make_head(start=1):
    return Head(WIDTH, len(LAYERS), N_CLASSES, start, seeded())


def restated(head, pooled, masked, label, weight):
    """f_fusion, f_masked, logits, L_ce and L_mlm in a few lines of NumPy."""
    w, first, first_bias, second, second_bias, classes, classes_bias = (
        parameter.detach().numpy().astype(np.float64) for parameter in head.parameters()
    )
    fused = np.einsum("l,bld->bd", w, pooled)
    seen = np.where(masked, 0.0, fused)
    rebuilt = np.maximum(seen @ first.T + first_bias, 0) @ second.T + second_bias
    logits = rebuilt @ classes.T + classes_bias
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    ce = -(weight * log_p[np.arange(len(label)), label]).sum() / weight.sum()
    return fused, rebuilt, logits, ce, np.square(rebuilt - fused).mean()


@pytest.fixture
def batch():
    rng = np.random.default_rng(1)
    return {
        "pooled": rng.standard_normal((5, len(LAYERS), WIDTH)),
        "masked": rng.random((5, WIDTH)) < 0.15,
        "label": np.array([0, 2, 1, 1, 0]),
        "weight": np.array([1.0, 0.5, 1.0, 0.0, 2.0]),
    }


def answer_of(head, batch, masked=True):
    pooled = torch.from_numpy(batch["pooled"]).float()
    return head(pooled, torch.from_numpy(batch["masked"]) if masked else None)


def losses_of(head, batch, *, detach_target, masked=True):
    label, weight = torch.from_numpy(batch["label"]), torch.from_numpy(batch["weight"]).float()
    return adapter_losses(
        answer_of(head, batch, masked), label, weight, detach_target=detach_target
    )


@pytest.mark.parametrize("masked", [True, False])
def test_the_head_and_its_losses(batch, masked):
    head = make_head()
    with torch.no_grad():
        head.layer_weights.copy_(torch.tensor([0.3, -0.7, 1.2]))
    known = batch if masked else {**batch, "masked": np.zeros_like(batch["masked"])}
    fused, rebuilt, logits, ce, mlm = restated(head, **known)
    answer = answer_of(head, batch, masked)
    for got, expected in (
        (answer.fused, fused),
        (answer.rebuilt, rebuilt),
        (answer.logits, logits),
    ):
        np.testing.assert_allclose(got.detach().numpy(), expected, atol=1e-5)
    for detach in (True, False):
        got_ce, got_mlm = losses_of(head, batch, detach_target=detach, masked=masked)
        assert got_ce.item() == pytest.approx(ce, rel=1e-5)
        assert got_mlm.item() == pytest.approx(mlm, rel=1e-5)


def test_the_mask_hides_and_the_weights_count(batch):
    assert 0 < batch["masked"].mean() < 0.5
    head = make_head()
    plain, hidden = answer_of(head, batch, masked=False), answer_of(head, batch)
    assert torch.equal(plain.fused, hidden.fused)
    assert not torch.allclose(plain.rebuilt, hidden.rebuilt, atol=1e-3)
    ignored = {**batch, "label": np.array([0, 2, 1, 0, 0])}  # the clip of weight 0
    ce, _ = losses_of(head, batch, detach_target=False)
    assert losses_of(head, ignored, detach_target=False)[0].item() == ce.item()


def test_a_detached_target_gets_no_gradient(batch):
    """The target's own share of dL_mlm / dw is -2 (f_masked - f_fusion) . f_l / (B D)."""
    gradients = {}
    for detach in (True, False):
        head = make_head()
        _, mlm = losses_of(head, batch, detach_target=detach)
        mlm.backward()
        gradients[detach] = head.layer_weights.grad.numpy()
    fused, rebuilt, *_ = restated(make_head(), **batch)
    through_target = np.einsum("bd,bld->l", -2 * (rebuilt - fused) / fused.size, batch["pooled"])
    np.testing.assert_allclose(gradients[False] - gradients[True], through_target, atol=1e-5)
    assert np.abs(through_target).max() > 0.1


@pytest.mark.parametrize("start", [0, 2])
def test_layer_weights_start_at_one_layer(start):
    expected = np.eye(len(LAYERS), dtype=np.float32)[start]
    assert make_head(start).layer_weights.tolist() == expected.tolist()


def test_the_model_pools_real_frames_of_each_layer(tmp_path):
    frozen = load_blocks(open_model(str(save_hubert(tmp_path / "hubert"))), 3, 6)
    blocks = AdaptedBlocks(frozen, LAYERS, bottleneck=8, generator=seeded())
    model = AdapterModel(blocks, make_head())
    x = torch.randn(2, 7, WIDTH, generator=seeded(2))
    real = torch.arange(7) < torch.tensor([7, 3])[:, None]
    with torch.no_grad():
        pooled, states = model.pooled(x, real), blocks(x, real)
        for column, layer in enumerate(LAYERS):
            expected = torch.stack([states[layer][0].mean(dim=0), states[layer][1, :3].mean(dim=0)])
            assert torch.allclose(pooled[:, column], expected, atol=1e-5)
        assert torch.equal(model(x, real).fused, pooled[:, 1])
    names = {name for name, _ in model.named_parameters()}
    assert len(names) == 4 * len(LAYERS) + 7, "the frozen blocks are not among them"


def test_every_parameter_learns():
    model = AdapterModel(OutputAdapters(WIDTH, LAYERS, 8, seeded()), make_head())
    torch.nn.init.ones_(model.head.layer_weights)
    x = torch.randn(6, len(LAYERS), WIDTH, generator=seeded(3))
    answer = model(x, None, torch.rand(6, WIDTH, generator=seeded(4)) < 0.15)
    ce, mlm = adapter_losses(answer, torch.arange(6) % 3, torch.ones(6), detach_target=False)
    (ce + mlm).backward()
    silent = [name for name, p in model.named_parameters() if not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize(
    ("lengths", "batch", "most", "ends"),
    [
        ([1, 2, 3, 4, 5], 2, 100, [2, 4, 5]),
        ([1, 2, 3, 4, 5], 5, 9, [3, 4, 5]),
        ([50, 60], 4, 9, [1, 2]),
        ([3], 4, 9, [1]),
        ([2, 2, 2, 2], 4, 8, [4]),
    ],
)
def test_batches_that_only_predict_are_bounded_in_frames(lengths, batch, most, ends):
    assert cut_by_length(np.array(lengths), batch, most) == ends
