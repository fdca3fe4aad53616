"""The probe's equations against NumPy; a stack of probes against a plain training of one."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pipelines.train import probe_model
from pipelines.train.lanes import Lane, count_batches, epoch_batches
from pipelines.train.probe_model import LayerSum, Probes, ProbeShape
from pipelines.train.stacked import (
    Noise,
    Standardise,
    cross_entropy,
    gather,
    lane_streams,
    mean_loss,
    spread,
)

N_CLIPS, N_LAYERS, WIDTH, N_CLASSES, HIDDEN = 60, 3, 7, 4, 5
NONE = np.zeros(0, np.int64)
CPU = torch.device("cpu")


@pytest.fixture
def values():
    rng = np.random.default_rng(0)
    scale = np.array([1.0, 30.0, 0.01])[:, None]
    return torch.from_numpy(
        (5 + scale * rng.standard_normal((N_CLIPS, N_LAYERS, WIDTH))).astype(np.float32)
    )


def make_lanes(n=2):
    order = np.random.default_rng(1).permutation(N_CLIPS)
    return [Lane(0, fold, 7, np.sort(order[5 * fold + 13 :]), NONE, NONE) for fold in range(n)]


def make_probes(values, lanes, hidden=HIDDEN, start=1, dropout=0.0, **changes):
    kind = {"each": False, "depth": 1} | changes
    shape = ProbeShape(values.shape[1], WIDTH, N_CLASSES, hidden, **kind)
    standardise = Standardise.fit(values, np.arange(N_CLIPS), lanes)
    streams = lane_streams(lanes, shape.n_variants)
    return Probes(shape, standardise, dropout, start, streams)


def standardised(values, lane):
    """[n, L, D] in float64, by the moments of the lane's clips."""
    own = values.numpy().astype(np.float64)
    seen = own[lane.train]
    return (own - seen.mean(axis=0)) / seen.std(axis=0)


def classify(model, x, s):
    """[n, D] -> [n, C] by the model number s."""
    for layer in model.mlp.layers:
        w, b = layer.weight[s].detach().double().numpy(), layer.bias[s].detach().double().numpy()
        x = np.maximum(x @ w + b, 0)
    w, b = (p[s].detach().double().numpy() for p in (model.classes.weight, model.classes.bias))
    return x @ w + b


def test_the_fused_feature_is_the_weighted_sum_of_layers():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2, 5, N_LAYERS, WIDTH))
    w = rng.standard_normal((2, N_LAYERS))
    layer_sum = LayerSum(2, N_LAYERS, 0)
    with torch.no_grad():
        layer_sum.weight.copy_(torch.from_numpy(w))
    fused = layer_sum(torch.from_numpy(x).float()).detach().numpy()
    for s in range(2):
        expected = sum(w[s, i] * x[s, :, i] for i in range(N_LAYERS))
        assert fused[s] == pytest.approx(expected, abs=1e-5)


def test_weights_start_at_one_for_one_layer_and_zero_for_others():
    layer_sum = LayerSum(4, N_LAYERS, 2)
    assert layer_sum.weight.tolist() == [[0.0, 0.0, 1.0]] * 4
    x = torch.randn(4, 6, N_LAYERS, WIDTH, generator=torch.Generator().manual_seed(0))
    assert torch.equal(layer_sum(x), x[:, :, 2])
    assert not torch.allclose(F.softmax(layer_sum.weight, dim=1), layer_sum.weight)


@pytest.mark.parametrize(("hidden", "depth"), [(HIDDEN, 1), (HIDDEN, 2), (0, 1)])
def test_logits_of_summed_layers_are_numpys(values, hidden, depth):
    lanes = make_lanes()
    model = make_probes(values, lanes, hidden, depth=depth)
    assert len(model.mlp.layers) == (depth if hidden else 0)
    with torch.no_grad():
        model.layer_sum.weight.copy_(torch.tensor([[0.5, -2.0, 1.5], [1.0, 0.25, 0.0]]))
    logits = model.predict(values, np.arange(N_CLIPS)).numpy()
    for s, lane in enumerate(lanes):
        fused = np.einsum(
            "nld,l->nd", standardised(values, lane), model.layer_sum.weight[s].tolist()
        )
        assert logits[s] == pytest.approx(classify(model, fused, s), abs=1e-4)


def test_logits_of_layers_apart_are_numpys(values):
    lanes = make_lanes()
    model = make_probes(values, lanes, each=True)
    assert model.layer_sum is None
    logits = model.predict(values, np.arange(N_CLIPS)).numpy()
    assert logits.shape == (2 * N_LAYERS, N_CLIPS, N_CLASSES)
    for k, lane in enumerate(lanes):
        x = standardised(values, lane)
        for q in range(N_LAYERS):
            s = k * N_LAYERS + q
            assert logits[s] == pytest.approx(classify(model, x[:, q], s), abs=1e-4)


def test_one_layer_has_no_weight(values):
    one = make_probes(values[:, :1], make_lanes(), start=0)
    assert one.layer_sum is None
    assert one.shape.n_variants == 1
    assert one.predict(values[:, :1], np.arange(4)).shape == (2, 4, N_CLASSES)


def test_layer_weights_learn_at_their_own_rate_and_do_not_decay(values):
    model = make_probes(values, make_lanes())
    others, own = model.groups(1e-4, 1e-2)
    assert own == {"params": [model.layer_sum.weight], "lr": 1e-2, "weight_decay": 0.0}
    assert others["lr"] == 1e-4
    assert len(others["params"]) == len(list(model.parameters())) - 1
    assert all(p is not model.layer_sum.weight for p in others["params"])
    assert len(make_probes(values, make_lanes(), each=True).groups(1e-4, 1e-2)) == 1


def test_predicting_in_pieces_changes_nothing(values, monkeypatch):
    model = make_probes(values, make_lanes())
    row = np.random.default_rng(0).permutation(N_CLIPS)[:41]
    whole = model.predict(values, row)
    monkeypatch.setattr(probe_model, "CHUNK_NUMBERS", 2 * N_LAYERS * WIDTH * 8)  # 8 clips
    assert torch.allclose(model.predict(values, row), whole, atol=1e-5)
    monkeypatch.setattr(probe_model, "CHUNK_NUMBERS", 1)
    assert torch.allclose(model.predict(values, row), whole, atol=1e-5)


def train_stack(model, values, lanes, label, n_epochs=5, batch=16, lr=1e-2):
    q = model.shape.n_variants
    optimizer = torch.optim.Adam(model.groups(lr, 2 * lr), weight_decay=1e-3)
    for epoch in range(n_epochs):
        noise = Noise(lanes, epoch, batch, q, CPU)
        for rows, real in epoch_batches(lanes, count_batches(lanes, batch), epoch):
            x, _ = gather(values, rows)
            losses = cross_entropy(model(x, noise), spread(torch.from_numpy(label[rows]), q))
            weight = spread(torch.from_numpy(real.astype(np.float32)), q)
            optimizer.zero_grad()
            mean_loss(losses, weight).sum().backward()
            optimizer.step()


def test_stacked_layers_train_as_plain_models_do_one_by_one(values):
    """Nothing of the stack's training is used by the plain one but its batches and its start."""
    lanes = make_lanes()
    label = np.random.default_rng(3).integers(0, N_CLASSES, N_CLIPS)
    model = make_probes(values, lanes, each=True)
    plain = [plain_copy(model, s) for s in range(2 * N_LAYERS)]
    train_stack(model, values, lanes, label)
    logits = model.predict(values, np.arange(N_CLIPS))
    for k, lane in enumerate(lanes):
        x = torch.from_numpy(standardised(values, lane)).float()
        for q in range(N_LAYERS):
            s = k * N_LAYERS + q
            before = plain[s](x[:, q]).detach()
            train_plain(plain[s], x[:, q], lanes, k, label)
            after = plain[s](x[:, q]).detach()
            assert (after - logits[s]).abs().max() <= 1e-4
            assert (after - before).abs().max() > 0.1


def plain_copy(model, s):
    layers = [nn.Linear(WIDTH, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, N_CLASSES)]
    with torch.no_grad():
        for linear, stacked in ((layers[0], model.mlp.layers[0]), (layers[2], model.classes)):
            linear.weight.copy_(stacked.weight[s].T)
            linear.bias.copy_(stacked.bias[s, 0])
    return nn.Sequential(*layers)


def train_plain(model, x, lanes, k, label, n_epochs=5, batch=16, lr=1e-2):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=1e-3)
    for epoch in range(n_epochs):
        for rows, real in epoch_batches(lanes, count_batches(lanes, batch), epoch):
            own = rows[k][real[k]]
            optimizer.zero_grad()
            F.cross_entropy(model(x[own]), torch.from_numpy(label[own])).backward()
            optimizer.step()


def test_a_lane_with_dropout_trains_alone_as_among_others(values):
    lanes = make_lanes(3)
    label = np.random.default_rng(3).integers(0, N_CLASSES, N_CLIPS)
    together = make_probes(values, lanes, dropout=0.4)
    without = make_probes(values, lanes, dropout=0.0)
    train_stack(together, values, lanes, label)
    train_stack(without, values, lanes, label)
    row = np.arange(N_CLIPS)
    alone = make_probes(values, lanes[:1], dropout=0.4)
    train_stack(alone, values, lanes[:1], label)
    assert (alone.predict(values, row)[0] - together.predict(values, row)[0]).abs().max() <= 1e-4
    assert (without.predict(values, row)[0] - together.predict(values, row)[0]).abs().max() > 1e-2


def test_weights_are_described_by_layer():
    layer_sum = LayerSum(2, 2, 0)
    with torch.no_grad():
        layer_sum.weight.copy_(torch.tensor([[1.0, -3.0], [2.0, 1.0]]))
    assert layer_sum.describe([16, 18]) == [
        {"layer": 16, "mean": 1.5, "std": 0.5, "size": 1.5},
        {"layer": 18, "mean": -1.0, "std": 2.0, "size": 2.0},
    ]
