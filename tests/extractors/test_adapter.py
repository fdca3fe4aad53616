"""Adapters: their equation, the states and gradients from a cache against the whole model, files on disk."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from checkpoint_factory import save_hubert, save_hubert_base, save_wav2vec2, save_wavlm
from part_factory import make_spec
from torch.nn import functional as F

from extractors.models.adapter import (
    AdaptedBlocks,
    Adapter,
    FrozenBlocks,
    OutputAdapters,
    fuse,
    load_blocks,
    pool,
)
from extractors.models.saved_adapter import (
    FACTS,
    TENSORS,
    WEIGHT,
    AdapterFacts,
    SavedAdapter,
    load_adapter,
    save_adapter,
)
from extractors.models.speech import open_model
from mer_store.errors import UsageError

FIRST, LAST, WIDTH, BOTTLENECK = 3, 6, 32, 8
LAYERS = (4, 5, 6)
LENGTHS = (6_000, 9_999, 4_321)
"""Samples of three waveforms."""
PLACEMENTS = ("output", "attention", "feed_forward")
FAMILIES = [(save_hubert, "Hubert"), (save_hubert_base, "Hubert"), (save_wav2vec2, "Wav2Vec2")]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def within(got, expected, limit=1e-5):
    """Relative to the largest number expected."""
    return bool((got - expected).abs().max() <= limit * expected.abs().max())


def lively(model):
    """Give adapters weights large enough to matter, biases too."""
    generator = seeded(5)
    for parameter in model.parameters():
        parameter.data.normal_(0.0, 0.3, generator=generator)
    return model


def waveforms(lengths):
    padded = torch.zeros(len(lengths), max(lengths))
    for row, n in zip(padded, lengths, strict=True):
        row[:n] = torch.randn(n, generator=seeded(n))
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return padded, mask.long() if len(set(lengths)) > 1 else None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_hubert(tmp_path_factory.mktemp("models") / "hubert", apply_spec_augment=False)


def whole_model(folder, family="Hubert"):
    model_class = getattr(transformers, f"{family}Model")
    model = model_class.from_pretrained(folder).eval()
    return model.requires_grad_(requires_grad=False)


def whole_states(model, lengths):
    """Every layer of transformers' own forward from waveforms, [B, T, D] each, and the real frames."""
    samples, mask = waveforms(lengths)
    output = model(samples, attention_mask=mask, output_hidden_states=True)
    states = [*output.hidden_states[:-1], output.last_hidden_state]
    if mask is None:
        return states, None
    n_frames = model._get_feat_extract_output_lengths(torch.tensor(lengths))
    return states, torch.arange(states[0].shape[1]) < n_frames[:, None]


class Wrapped(torch.nn.Module):
    """A block of the whole model with an adapter on its output."""

    def __init__(self, block, adapter):
        super().__init__()
        self.block, self.adapter = block, adapter

    def forward(self, hidden, **kwargs):
        output = self.block(hidden, **kwargs)
        self.given = self.adapter(output[0] if isinstance(output, tuple) else output)
        return (self.given, *output[1:]) if isinstance(output, tuple) else self.given


# The equations.


def test_the_adapters_equation():
    adapter = lively(Adapter(WIDTH, BOTTLENECK))
    down, down_bias, up, up_bias = (
        parameter.detach().numpy().astype(np.float64) for parameter in adapter.parameters()
    )
    x = np.random.default_rng(0).standard_normal((5, 7, WIDTH))
    inner = np.maximum(x @ down.T + down_bias, 0)
    expected = x + np.maximum(inner @ up.T + up_bias, 0)
    assert down.shape == (BOTTLENECK, WIDTH)
    assert up.shape == (WIDTH, BOTTLENECK)
    got = adapter(torch.from_numpy(x).float()).detach().numpy()
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_new_adapter_changes_little_and_learns():
    adapter = Adapter(WIDTH, BOTTLENECK, seeded())
    x = torch.randn(50, WIDTH, generator=seeded(1))
    y = adapter(x)
    assert 0 < (y - x).abs().max() < 0.2
    y.square().sum().backward()
    assert adapter.up.weight.grad.abs().sum() > 0
    assert adapter.down.weight.grad.abs().sum() > 0
    share_alive = (adapter.up.weight.grad.abs().sum(dim=1) > 0).float().mean()
    assert share_alive > 0.8
    again = Adapter(WIDTH, BOTTLENECK, seeded())
    assert torch.equal(adapter.up.weight, again.up.weight)
    assert torch.equal(adapter.down.weight, again.down.weight)


def test_the_fused_feature_and_the_mean_over_real_frames():
    rng = np.random.default_rng(2)
    states, n_frames = rng.standard_normal((3, 9, 4)).astype(np.float32), (9, 1, 5)
    real = torch.arange(9) < torch.tensor(n_frames)[:, None]
    hostile = torch.from_numpy(states).masked_fill(~real[..., None], float("nan"))
    means = np.stack([row[:n].mean(axis=0) for row, n in zip(states, n_frames, strict=True)])
    np.testing.assert_allclose(pool(hostile, real).numpy(), means, atol=1e-6)
    np.testing.assert_allclose(
        pool(torch.from_numpy(states), None).numpy(), states.mean(axis=1), atol=1e-6
    )
    weight, pooled = rng.standard_normal(2), rng.standard_normal((3, 2, 4))
    fused = fuse(torch.from_numpy(weight), torch.from_numpy(pooled)).numpy()
    np.testing.assert_allclose(fused, weight[0] * pooled[:, 0] + weight[1] * pooled[:, 1])


def test_the_fused_feature_is_not_rounded_in_half_precision():
    weight, pooled = torch.tensor([0.3, -1.7]), torch.randn(3, 2, 4, generator=seeded())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(
            fuse(weight, pooled), weight[0] * pooled[:, 0] + weight[1] * pooled[:, 1]
        )


def test_adapters_on_outputs_are_one_adapter_a_layer():
    model = lively(OutputAdapters(WIDTH, LAYERS, BOTTLENECK))
    pooled = torch.randn(4, 3, WIDTH, generator=seeded(3))
    got = model(pooled)
    for column, layer in enumerate(LAYERS):
        assert torch.equal(got[:, column], model.adapters[str(layer)](pooled[:, column]))
    assert not torch.equal(got[:, 0], model.adapters["5"](pooled[:, 0]))


# From the cache, against the whole model.


@pytest.mark.parametrize("lengths", [LENGTHS, LENGTHS[:1]], ids=["padded", "alone"])
@pytest.mark.parametrize(("save", "family"), FAMILIES)
def test_states_and_gradients_from_the_cache_are_those_of_the_whole_model(
    save, family, lengths, tmp_path
):
    model = whole_model(save(tmp_path / "model", apply_spec_augment=False), family)
    with torch.no_grad():
        plain, real = whole_states(model, lengths)
    cached = plain[FIRST].clone()
    if real is not None:
        cached = cached.masked_fill(~real[..., None], 0)  # the cache holds real frames only
    adapted = lively(
        AdaptedBlocks(FrozenBlocks.of(model, FIRST, LAST), LAYERS, "output", BOTTLENECK)
    )
    target = torch.randn(len(lengths), len(LAYERS), WIDTH, generator=seeded(9))

    def gradients(states):
        adapted.zero_grad()
        pooled = torch.stack([pool(states[layer], real) for layer in LAYERS], dim=1)
        (pooled - target).square().sum().backward()
        return [parameter.grad.clone() for parameter in adapted.parameters()]

    from_cache = adapted(cached, real)
    ours = gradients(from_cache)
    for layer in LAYERS:
        block = model.encoder.layers[layer - 1]
        model.encoder.layers[layer - 1] = Wrapped(block, adapted.adapters[str(layer)])
    states, _ = whole_states(model, lengths)
    whole = {layer: model.encoder.layers[layer - 1].given for layer in LAYERS}
    whole[LAST] = states[-1]
    theirs = gradients(whole)
    inside = real if real is not None else torch.ones(plain[0].shape[:2], dtype=torch.bool)
    assert list(from_cache) == list(LAYERS)
    for layer in LAYERS:
        assert within(from_cache[layer][inside], whole[layer][inside]), layer
        assert not within(whole[layer][inside], plain[layer][inside], 1e-2)
    for mine, other in zip(ours, theirs, strict=True):
        assert other.abs().max() > 0
        assert within(mine, other)


def restated(frozen, model, x, layers=LAYERS):
    """The blocks of a stable layer norm, written out, with an adapter where the placement says."""
    given = {}
    for layer, block in enumerate(frozen.blocks, start=frozen.first + 1):
        adapt = model.adapters[str(layer)] if layer in layers else torch.nn.Identity()
        attended = block.attention(block.layer_norm(x))[0]
        x = x + (adapt(attended) if model.placement == "attention" else attended)
        fed = block.feed_forward(block.final_layer_norm(x))
        x = x + (adapt(fed) if model.placement == "feed_forward" else fed)
        if model.placement == "output":
            x = adapt(x)
        if layer in layers:
            given[layer] = x
    return given


@torch.no_grad()
def test_each_placement_is_what_it_says_and_no_two_agree(folder):
    frozen = load_blocks(open_model(str(folder)), 1, 5)
    layers = (3, 5)
    x = torch.randn(2, 11, WIDTH, generator=seeded(4))
    outputs = []
    for placement in PLACEMENTS:
        model = lively(AdaptedBlocks(frozen, layers, placement, BOTTLENECK))
        got = model(x)
        expected = restated(frozen, model, x, layers)
        assert list(got) == list(expected) == [3, 5]
        for layer in layers:
            assert within(got[layer], expected[layer]), (placement, layer)
        assert not any(block.attention._forward_hooks for block in frozen.blocks)
        assert not any(block.feed_forward._forward_hooks for block in frozen.blocks)
        outputs.append(got[5])
    for i, one in enumerate(outputs):
        assert not any(within(one, other, 1e-2) for other in outputs[:i])


@torch.no_grad()
def test_layers_below_the_first_adapter_are_as_without_any(folder):
    frozen = load_blocks(open_model(str(folder)), 1, 5)
    x = torch.randn(2, 11, WIDTH, generator=seeded(4))
    one = lively(AdaptedBlocks(frozen, (5, 3), bottleneck=BOTTLENECK))
    assert one.layers == (3, 5)
    assert set(one.adapters) == {"3", "5"}
    silent = AdaptedBlocks(frozen, (2,), bottleneck=BOTTLENECK)
    torch.nn.init.zeros_(silent.adapters["2"].up.weight)
    bare = frozen.blocks[1](silent(x)[2])
    assert within(one(x)[3], one.adapters["3"](bare))


@torch.no_grad()
def test_the_last_layer_carries_the_models_final_norm(folder):
    model = whole_model(folder)
    plain, _ = whole_states(model, LENGTHS[:1])
    adapted = AdaptedBlocks(FrozenBlocks.of(model, FIRST, LAST), LAYERS, bottleneck=BOTTLENECK)
    for adapter in adapted.adapters.values():
        torch.nn.init.zeros_(adapter.up.weight)
    got = adapted(plain[FIRST])
    for layer in LAYERS:
        assert within(got[layer], plain[layer])
    lively(adapted)
    states = restated(adapted.frozen, adapted, plain[FIRST])
    assert within(adapted(plain[FIRST])[6], model.encoder.layer_norm(states[6]))
    below = FrozenBlocks.of(model, FIRST, LAST - 1)
    assert below.final_norm is None
    assert below.last == LAST - 1


def test_what_is_frozen_stays_so_while_adapters_train(folder):
    model = whole_model(folder).requires_grad_(requires_grad=True).train()
    frozen = FrozenBlocks.of(model, FIRST, LAST)
    modules = torch.nn.ModuleList([*frozen.blocks, frozen.final_norm])
    before = {name: value.clone() for name, value in modules.state_dict().items()}
    adapted = AdaptedBlocks(frozen, LAYERS, bottleneck=BOTTLENECK, generator=seeded()).train()
    assert len(list(adapted.parameters())) == 4 * len(LAYERS)
    adam = torch.optim.Adam(adapted.parameters(), lr=1e-2)
    x = torch.randn(2, 8, WIDTH, generator=seeded(6))
    losses = []
    for _ in range(5):
        loss = sum(F.mse_loss(pool(states, None), x[:, 0]) for states in adapted(x).values())
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    for name, value in modules.state_dict().items():
        assert torch.equal(value, before[name]), name
    for module in modules:
        assert not any(part.training for part in module.modules())
        assert not any(p.requires_grad or p.grad is not None for p in module.parameters())
    assert torch.equal(adapted(x)[6], adapted(x)[6])


def test_what_padded_frames_hold_changes_nothing(folder):
    adapted = lively(AdaptedBlocks(load_blocks(open_model(str(folder)), 3, 6), LAYERS, "output", 8))
    x = torch.randn(2, 10, WIDTH, generator=seeded(7))
    real = torch.arange(10) < torch.tensor([10, 4])[:, None]
    wild = x.masked_fill(~real[..., None], 50.0)
    with torch.no_grad():
        quiet, loud, alone = adapted(x, real), adapted(wild, real), adapted(x[1:, :4])
    for layer in LAYERS:
        assert within(quiet[layer][real], loud[layer][real], 1e-6)
        assert within(quiet[layer][1, :4], alone[layer][0])


# What is refused.


def test_wavlm_is_refused(tmp_path):
    model = open_model(str(save_wavlm(tmp_path / "wavlm")))
    with pytest.raises(UsageError, match="hubert or wav2vec2; got 'wavlm'"):
        load_blocks(model, 3, 6)


@pytest.mark.parametrize(("first", "last"), [(3, 3), (-1, 2), (3, 7), (5, 4)])
def test_blocks_that_the_model_has_not_are_refused(folder, first, last):
    with pytest.raises(UsageError, match="the model has blocks 1 to 6"):
        load_blocks(open_model(str(folder)), first, last)


@pytest.mark.parametrize("layers", [(), (3,), (4, 7)])
def test_adapters_outside_the_blocks_are_refused(folder, layers):
    frozen = load_blocks(open_model(str(folder)), 3, 6)
    with pytest.raises(UsageError, match="expected layers from 4 to 6"):
        AdaptedBlocks(frozen, layers)


# On disk.


def saved_adapter(**changes):
    model = lively(OutputAdapters(WIDTH, LAYERS, BOTTLENECK))
    spec = json.loads(make_spec("frame").to_json())
    values = {
        "model": "somewhere/hubert", "weights": "sha256:0", "site": "blocks", "placement": "output",
        "first": FIRST, "layers": LAYERS, "bottleneck": BOTTLENECK, "width": WIDTH, "base_spec": spec,
    }  # fmt: skip
    tensors = {**model.state_dict(), WEIGHT: torch.tensor([0.1, 1.0, -0.2])}
    return SavedAdapter(AdapterFacts(**values | changes), tensors)


def test_saved_and_loaded_is_the_same(tmp_path, folder):
    saved = saved_adapter()
    save_adapter(tmp_path, saved)
    loaded = load_adapter(tmp_path)
    assert loaded.facts == saved.facts
    assert loaded.digest == saved.digest
    assert loaded.layer_weights.tolist() == saved.layer_weights.tolist()
    frozen = load_blocks(open_model(str(folder)), FIRST, LAST)
    blocks = loaded.in_blocks(frozen)
    x = torch.randn(2, 3, WIDTH, generator=seeded(8))
    outputs = loaded.on_outputs()
    for layer in LAYERS:
        for model in (blocks, outputs):
            adapter = model.adapters[str(layer)]
            assert torch.equal(adapter.up.bias, saved.tensors[f"adapters.{layer}.up.bias"])
            assert not adapter.up.bias.requires_grad
    assert torch.equal(outputs(x)[:, 0], blocks.adapters["4"](x[:, 0]))


def test_the_digest_is_of_all_that_changes_numbers_and_nothing_else():
    saved = saved_adapter()
    assert saved_adapter(model="/elsewhere").digest == saved.digest
    other_spec = {**saved.facts.base_spec, "stored_dtype": "float32"}
    changes = [
        {"weights": "sha256:1"}, {"site": "outputs"}, {"placement": "attention"}, {"first": 2},
        {"layers": (4, 5)}, {"base_spec": other_spec},
    ]  # fmt: skip
    digests = [saved_adapter(**change).digest for change in changes]
    for name, tensor in saved.tensors.items():
        nudged = tensor.clone()
        nudged.view(-1)[0] += 1e-3
        digests.append(replace(saved, tensors={**saved.tensors, name: nudged}).digest)
    assert len({saved.digest, *digests}) == len(digests) + 1 == 7 + 4 * len(LAYERS) + 1


def spoil_facts(folder, **changes):
    path = folder / FACTS
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def spoil_tensors(folder, **changes):
    saved = saved_adapter()
    tensors = {name: tensor for name, tensor in saved.tensors.items() if name not in changes}
    save_adapter(
        folder,
        replace(saved, tensors={**tensors, **{k: v for k, v in changes.items() if v is not None}}),
    )


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / FACTS).unlink(), "expected the folder of a finished adapter"),
        (lambda folder: (folder / TENSORS).unlink(), "expected the folder of a finished adapter"),
        (lambda folder: (folder / TENSORS).write_bytes(b"no tensors"), "finished adapter"),
        (lambda folder: (folder / FACTS).write_text("[1, 2]"), "finished adapter"),
        (lambda folder: (folder / FACTS).write_text("{"), "finished adapter"),
        (lambda folder: spoil_facts(folder, colour="red"), "colour"),
        (lambda folder: spoil_facts(folder, site="roof"), "site 'roof'"),
        (lambda folder: spoil_facts(folder, bottleneck=9), r"down.bias: expected shape \(9,\)"),
        (lambda folder: spoil_facts(folder, layers=[4, 5]), "adapters.6.*expected shape None"),
        (lambda folder: spoil_facts(folder, base_spec={}), "base_spec|required|missing"),
        (lambda folder: spoil_tensors(folder, layer_weights=None), "layer_weights.*got None"),
        (lambda folder: spoil_tensors(folder, layer_weights=torch.full((3,), torch.nan)), "finite"),
    ],
)  # fmt: skip
def test_a_folder_without_an_adapter_is_a_clear_error(spoil, words, tmp_path):
    save_adapter(tmp_path, saved_adapter())
    spoil(tmp_path)
    with pytest.raises(UsageError, match=words) as caught:
        load_adapter(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_no_folder_at_all(tmp_path):
    with pytest.raises(UsageError, match="mer-store train adapter"):
        load_adapter(tmp_path / "nowhere")
