"""The vision MLP, the temperature and the contrastive loss, against the paper's formulas in NumPy."""

import numpy as np
import pytest
import torch

from pipelines.train.align_model import (
    MAX_SCALE,
    Aligner,
    Standardise,
    VisionMLP,
    contrastive_loss,
    cosines,
    recall_at,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def as_tensor(values):
    return torch.from_numpy(values.astype(np.float32))


def relu(x):
    return np.maximum(x, 0)


def log_softmax(x):
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def test_the_vision_mlp_is_the_papers_formula(rng):
    mlp = VisionMLP(6, 5, 4, seed=3)
    w1, w2, b1, b2 = (
        tensor.detach().numpy().astype(np.float64) for tensor in (mlp.w1, mlp.w2, mlp.b1, mlp.b2)
    )
    f = rng.standard_normal((7, 6))
    expected = np.stack([relu(w1 @ relu(w2 @ row + b1) + b2) for row in f])
    assert expected.max() > 0
    assert mlp(as_tensor(f)).detach().numpy() == pytest.approx(expected, abs=1e-6)


def test_the_mlp_starts_as_linear_layers_do_and_from_the_seed_alone():
    mlp, same, other = (VisionMLP(100, 50, 50, seed) for seed in (0, 0, 1))
    assert torch.equal(mlp.w1, same.w1)
    assert not torch.equal(mlp.w1, other.w1)
    assert not torch.equal(mlp.w1, mlp.w2[:, :50])
    for weight, n_in in ((mlp.w2, 100), (mlp.w1, 50)):
        assert weight.abs().max().item() == pytest.approx(n_in**-0.5, rel=0.01)


def test_logits_are_cosines_over_the_temperature(rng):
    model = Aligner(6, 5, 4, temperature=0.2)
    f, a = rng.standard_normal((3, 6)), rng.standard_normal((3, 4))
    f_v = model.mlp(as_tensor(f)).detach().numpy()
    expected = [
        [v @ x / np.linalg.norm(v) / np.linalg.norm(x) / 0.2 for x in a.astype(np.float32)]
        for v in f_v
    ]
    logits = model(as_tensor(f), as_tensor(a)).detach().numpy()
    assert logits == pytest.approx(np.array(expected), abs=1e-5)
    assert model.temperature == pytest.approx(0.2)


def test_the_loss_is_symmetric_cross_entropy(rng):
    logits = rng.standard_normal((5, 5)) * 3
    expected = -(np.diag(log_softmax(logits)).mean() + np.diag(log_softmax(logits.T)).mean()) / 2
    assert contrastive_loss(torch.from_numpy(logits)).item() == pytest.approx(expected)
    assert contrastive_loss(torch.from_numpy(logits.T)).item() == pytest.approx(expected)


def test_the_temperature_is_learned_and_limited(rng):
    model = Aligner(6, 5, 4, temperature=1.0)
    x = as_tensor(rng.standard_normal((4, 6)))
    loss = contrastive_loss(model.log_scale.exp() * torch.eye(4))
    loss.backward()
    assert model.log_scale.grad.item() < 0  # pairs that fit best want a lower temperature
    with torch.no_grad():
        model.log_scale.fill_(10.0)
    model.limit_temperature()
    assert 1 / model.temperature == pytest.approx(MAX_SCALE, rel=1e-5)
    assert torch.isfinite(model(x, as_tensor(rng.standard_normal((4, 4))))).all()


def test_standardise_measures_the_rows_it_is_given(rng):
    values = (rng.standard_normal((50, 3)) * [1, 10, 0] + [0, 5, 2]).astype(np.float16)
    rows = np.arange(0, 50, 2)
    values[1, 2] = 9.0  # not among the rows: there the feature never varies
    standardise = Standardise(3)
    standardise.fit(torch.from_numpy(values), torch.from_numpy(rows))
    own = values[rows].astype(np.float64)
    expected = (values - own.mean(axis=0)) / [*own.std(axis=0)[:2], np.inf]
    assert standardise(torch.from_numpy(values)).numpy() == pytest.approx(expected, abs=1e-4)


def test_weights_bring_back_the_model(rng):
    model = Aligner(6, 5, 4, seed=1)
    model.visual.fit(as_tensor(rng.standard_normal((9, 6))), torch.arange(9))
    again = Aligner.of_weights(model.state_dict())
    x = as_tensor(rng.standard_normal((3, 6)))
    assert torch.equal(again.align(x), model.align(x))
    assert again.digest() == model.digest()


def test_the_digest_is_of_what_decides_the_aligned_features():
    def digest(change):
        model = Aligner(6, 5, 4)
        with torch.no_grad():
            change(model).add_(1.0)
        return model.digest()

    plain = Aligner(6, 5, 4).digest()
    assert digest(lambda model: model.log_scale) == plain
    assert digest(lambda model: model.audio.mean) == plain
    assert digest(lambda model: model.visual.mean) != plain
    assert digest(lambda model: model.mlp.b2) != plain


def test_recall_counts_own_columns_among_the_k_best():
    similarity = torch.tensor(
        [
            [0.9, 0.1, 0.2],  # first
            [0.8, 0.5, 0.1],  # second
            [0.8, 0.7, 0.6],  # third
        ]
    )
    assert recall_at(similarity, 1) == pytest.approx(1 / 3)
    assert recall_at(similarity, 2) == pytest.approx(2 / 3)
    assert recall_at(similarity, 3) == 1.0
    # By columns 0.9, 0.7 > 0.5, 0.6: the middle one is found second.
    assert recall_at(similarity.T, 1) == pytest.approx(2 / 3)


def test_features_that_are_all_alike_find_nothing():
    dead = cosines(torch.zeros(4, 3), torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
    assert recall_at(dead, 1) == 0.0
    assert recall_at(dead, 3) == 0.0
