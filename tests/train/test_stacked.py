"""A model in a stack computes and learns what it would alone."""

import numpy as np
import pytest
import torch
from torch import nn

from pipelines.train.lanes import Lane
from pipelines.train.stacked import (
    Noise,
    StackedLinear,
    StackedMLP,
    Standardise,
    cross_entropy,
    drop,
    gather,
    lane_streams,
    mean_loss,
    spread,
)
from pipelines.train.streams import stream

CPU = torch.device("cpu")
NONE = np.zeros(0, np.int64)


def lane(fold, train=(), repeat=0):
    return Lane(repeat, fold, 7, np.array(train, np.int64), NONE, NONE)


def test_layers_start_as_torch_s_own_and_each_by_its_own_stream():
    lanes = [lane(0), lane(1)]
    stacked = StackedLinear(400, 300, lane_streams(lanes)("x"))
    bound = 1 / 400**0.5
    assert stacked.weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
    assert stacked.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    alone = StackedLinear(400, 300, lane_streams([lane(1)])("x"))
    assert torch.equal(stacked.weight[1:], alone.weight)
    assert not torch.equal(stacked.weight[0], stacked.weight[1])
    assert not torch.equal(
        alone.weight, StackedLinear(400, 300, lane_streams([lane(1)])("y")).weight
    )


def one_model(mlp, head, number):
    """Return plain torch modules that hold the parameters of one model of a stack."""
    layers = [*mlp.layers, head]
    linears = [nn.Linear(layer.weight.shape[1], layer.weight.shape[2]) for layer in layers]
    with torch.no_grad():
        for linear, layer in zip(linears, layers, strict=True):
            linear.weight.copy_(layer.weight[number].T)
            linear.bias.copy_(layer.bias[number, 0])
    return nn.Sequential(linears[0], nn.ReLU(), linears[1], nn.ReLU(), linears[2])


def test_a_stack_learns_as_its_models_would_one_by_one():
    lanes = [lane(0), lane(1), lane(2)]
    mlp = StackedMLP(5, 8, 2, torch.zeros(3), lane_streams(lanes), "mlp")
    head = StackedLinear(8, 4, lane_streams(lanes)("head"))
    plain = [one_model(mlp, head, number) for number in range(3)]
    adam = torch.optim.Adam(
        [*mlp.parameters(), *head.parameters()], 0.01, weight_decay=0.1, fused=True
    )
    adams = [torch.optim.Adam(model.parameters(), 0.01, weight_decay=0.1) for model in plain]
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        x = torch.randn(3, 6, 5, generator=generator)
        label = torch.randint(4, (3, 6), generator=generator)
        weight = torch.rand(3, 6, generator=generator)
        adam.zero_grad()
        mean_loss(cross_entropy(head(mlp(x)), label), weight).sum().backward()
        adam.step()
        for number, (model, own) in enumerate(zip(plain, adams, strict=True)):
            own.zero_grad()
            each = nn.functional.cross_entropy(model(x[number]), label[number], reduction="none")
            ((each * weight[number]).sum() / weight[number].sum()).backward()
            own.step()
    for number, model in enumerate(plain):
        again = one_model(mlp, head, number)
        for ours, theirs in zip(again.parameters(), model.parameters(), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5)


def test_noise_is_the_lane_s_own_whatever_stands_beside_it():
    lanes = [lane(0), lane(1), lane(0, repeat=1)]
    together, alone = Noise(lanes, 3, 16, 2, CPU), Noise(lanes[1:2], 3, 16, 1, CPU)
    for n_rows, width in ((16, 5), (11, 7), (16, 2)):
        many, one = together(n_rows, width), alone(n_rows, width)
        assert many.shape == (6, n_rows, width)
        assert torch.equal(many[2], one[0])
        assert torch.equal(many[2], many[3])  # variants of a lane share it
        assert not torch.equal(many[0], many[2])
    assert not torch.equal(Noise(lanes, 4, 16, 1, CPU)(16, 5), Noise(lanes, 3, 16, 1, CPU)(16, 5))


def test_dropped_elements_are_made_up_for():
    x = torch.ones(3, 500, 40)
    noise = torch.rand(3, 500, 40, generator=stream("test"))
    dropped = drop(x, torch.tensor([0.0, 0.3, 0.8]), noise)
    shares = (dropped == 0).float().mean(dim=(1, 2)).tolist()
    assert shares == pytest.approx([0.0, 0.3, 0.8], abs=0.01)
    assert dropped.mean(dim=(1, 2)).tolist() == pytest.approx([1, 1, 1], abs=0.05)


def test_weights_of_zero_leave_clips_out():
    losses = torch.tensor([[1.0, 5.0, 9.0], [1.0, 5.0, 9.0]])
    weight = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert mean_loss(losses, weight).tolist() == [3.0, 0.0]


def test_standardisation_sees_the_lane_s_training_clips_alone():
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.normal(3.0, 2.0, (6, 2, 4)).astype(np.float16))
    values[:, 0, 0] = 5.0  # a constant feature
    row = np.array([0, 1, 2, -1, 3, 4, 5])
    lanes = [lane(0, [0, 1, 2, 3]), lane(1, [4, 5, 6])]
    fitted = Standardise.fit(values, row, lanes)
    own = values[:3].float().numpy()
    scaled = fitted(values.float().expand(2, 6, 2, 4)).numpy()
    expected = (own - own.mean(axis=0)) / np.maximum(own.std(axis=0), 1e-5)
    assert scaled[0, :3] == pytest.approx(expected, abs=1e-4)
    assert np.isfinite(scaled).all()
    assert scaled[1, 3:].mean(axis=0)[1] == pytest.approx(np.zeros(4), abs=1e-4)


def test_a_feature_that_is_the_same_in_all_training_clips_is_left_out():
    values = torch.zeros(200, 1, 4)
    values[:, 0, 1] = 387.123
    values[:, 0, 2] = torch.arange(200) / 100
    values[:-1, 0, 3] = torch.where(torch.arange(199) == 0, 388.0, 387.75)  # one step of float16
    values[-1, 0, :2] = torch.tensor([0.25, 388.0])  # not the same in a clip that is held out
    scaled = Standardise.fit(values, np.arange(200), [lane(0, range(199))])(values[None])
    assert scaled[0, :, 0, :2].abs().max() == 0
    assert scaled[0, :199, 0, 2:].std(dim=0, correction=0).tolist() == pytest.approx([1, 1], 1e-3)


def test_what_is_not_there_is_zeros_and_said():
    values = torch.arange(12.0).reshape(3, 1, 4).half()
    x, there = gather(values, np.array([[2, -1], [0, 1]]))
    assert there.tolist() == [[True, False], [True, True]]
    assert x.dtype == torch.float32
    assert x[0, 0, 0].tolist() == [8.0, 9.0, 10.0, 11.0]
    assert x[0, 1].abs().max() == 0


def test_variants_of_a_lane_stand_side_by_side():
    assert spread(torch.tensor([[1], [2]]), 3).flatten().tolist() == [1, 1, 1, 2, 2, 2]
