"""Baichuan2: 13B against a statement of its architecture, 7B against transformers' Llama."""

import weakref

import numpy as np
import pytest
import torch
from text.baichuan_statement import (
    SHAPE_7B,
    SHAPE_13B,
    hidden_states,
    published_tensors,
    slopes_of_40_heads,
)

from extractors.text.alibi_decoder import AlibiDecoder, DecoderShape, alibi_bias, alibi_slopes
from extractors.text.baichuan2 import (
    check_config,
    is_baichuan,
    load_baichuan,
    max_tokens,
    uses_alibi,
)
from mer_store.errors import UsageError

CPU = torch.device("cpu")
IDS = [3, 96, 5, 5, 41, 17, 60, 2, 88, 30, 11]


def load(config, tensors=None, dtype=torch.float32):
    named = (tensors or published_tensors(config)).items()
    pairs = ((name, torch.from_numpy(array)) for name, array in named)
    return load_baichuan(config, pairs, CPU, dtype, "checkpoint")


def states_of(model, ids, layers):
    with torch.inference_mode():
        states = model(torch.tensor([ids]), torch.tensor([len(ids)]), layers)
    return {layer: state[0].float().numpy() for layer, state in states.items()}


def relative(got, expected):
    return np.abs(got - expected).max() / np.abs(expected).max()


def test_13b_equals_the_statement_of_its_architecture():
    expected = hidden_states(IDS, published_tensors(SHAPE_13B), SHAPE_13B)
    got = states_of(load(SHAPE_13B), IDS, [0, 1, 2, 3])
    assert sorted(got) == [0, 1, 2, 3]
    for layer, state in got.items():
        assert relative(state, expected[layer]) < 3e-6, layer


@pytest.mark.parametrize("side", ["left", "right"])
def test_13b_padded_equals_alone(side):
    model = load(SHAPE_13B).decoder
    ids, pad = torch.tensor([IDS, [0] * 11]), [0] * 5
    short = IDS[:6]
    ids[1] = torch.tensor(pad + short if side == "left" else short + pad)
    mask = torch.tensor([[1] * 11, [0] * 5 + [1] * 6 if side == "left" else [1] * 6 + [0] * 5])
    rows = slice(5, 11) if side == "left" else slice(0, 6)
    with torch.inference_mode():
        batch = model(ids, range(4), mask)
    expected = hidden_states(short, published_tensors(SHAPE_13B), SHAPE_13B)
    for layer, state in batch.items():
        assert torch.isfinite(state).all(), "a padded query must not be NaN"
        assert relative(state[1, rows].numpy(), expected[layer]) < 3e-6, layer


def test_13b_masks_right_padding_alike_with_and_without_a_mask():
    model = load(SHAPE_13B).decoder
    ids, mask = torch.tensor([IDS[:6] + [0] * 5]), torch.tensor([[1] * 6 + [0] * 5])
    with torch.inference_mode():
        masked, causal = model(ids, [3], mask)[3], model(ids, [3])[3]
    torch.testing.assert_close(masked[:, :6], causal[:, :6], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.02), (torch.float16, 0.0025)])
def test_13b_in_half_precision_keeps_its_digits(dtype, bound):
    """Late tokens too: the bias is relative, so a long text costs no digits."""
    ids = (IDS * 6)[:60]
    exact = states_of(load(SHAPE_13B), ids, [2, 3])
    half = states_of(load(SHAPE_13B, dtype=dtype), ids, [2, 3])
    for layer in (2, 3):
        for tokens in (slice(0, 8), slice(52, 60)):
            error = half[layer][tokens] - exact[layer][tokens]
            assert np.linalg.norm(error) / np.linalg.norm(exact[layer][tokens]) < bound


def test_half_precision_bias_is_exact_near_the_query_however_late_it_stands():
    slopes = alibi_slopes(40)
    half = alibi_bias(slopes, 2048, None).half().float()[0]
    late, early = half[:, 2047, 2040:2048], half[:, 7, :8]
    assert torch.equal(late, early)
    assert torch.allclose(late, slopes[:, None] * torch.arange(-7, 1), rtol=1e-3)


def test_slopes_of_40_heads():
    got = alibi_slopes(40)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got, slopes_of_40_heads(), rtol=1e-6)
    assert got[0] == pytest.approx(2**-0.25)
    assert got[31] == 2**-8
    assert got[32] == pytest.approx(2**-0.125)
    assert len(set(got.tolist())) == 40


@pytest.mark.parametrize(
    ("n_heads", "expected"),
    [
        (1, [2**-8]),
        (2, [2**-4, 2**-8]),
        (8, [2.0**-n for n in range(1, 9)]),
        (3, [2**-4, 2**-8, 2**-2]),
        (6, [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]),
    ],
)
def test_slopes_of_any_number_of_heads(n_heads, expected):
    assert alibi_slopes(n_heads).tolist() == expected


@pytest.mark.parametrize("config", [SHAPE_13B, SHAPE_7B], ids=["13b", "7b"])
def test_asking_for_few_layers_gives_the_same_numbers_and_runs_no_block_above(config):
    model = load(config)
    everything = states_of(model, IDS, [0, 1, 2, 3])
    blocks = model.decoder.layers if config is SHAPE_13B else model.model.layers
    ran = []
    for number, block in enumerate(blocks, start=1):
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
    for layer, n_run in {0: 0, 1: 1, 2: 2, 3: 3}.items():
        ran.clear()
        alone = states_of(model, IDS, [layer])
        assert list(alone) == [layer]
        np.testing.assert_array_equal(alone[layer], everything[layer])
        assert len([number for number in ran if number < 3]) >= min(n_run, 2)
        assert max(ran, default=0) <= layer
    pair = states_of(model, IDS, [1, 3])
    np.testing.assert_array_equal(pair[1], everything[1])
    np.testing.assert_array_equal(pair[3], everything[3])


def llama_of(config, tensors):
    """Transformers' own Llama, with weights written into it by hand and read by its own tuple."""
    from transformers import LlamaConfig, LlamaModel

    keys = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")
    model = LlamaModel(
        LlamaConfig(
            **{key: config[key] for key in keys},
            num_attention_heads=config["num_attention_heads"],
            rms_norm_eps=1e-6,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        )
    ).eval()
    width = config["hidden_size"]
    own = {}
    for name, array in tensors.items():
        short = name.removeprefix("model.")
        if "W_pack" in name:
            own[short.replace("W_pack", "q_proj")] = array[:width]
            own[short.replace("W_pack", "k_proj")] = array[width : 2 * width]
            own[short.replace("W_pack", "v_proj")] = array[2 * width :]
        elif "lm_head" not in name and "inv_freq" not in name:
            own[short] = array
    model.load_state_dict({name: torch.from_numpy(array) for name, array in own.items()})
    return model


def test_7b_equals_llama():
    llama = llama_of(SHAPE_7B, published_tensors(SHAPE_7B))
    with torch.inference_mode():
        expected = llama(torch.tensor([IDS]), output_hidden_states=True).hidden_states
    got = states_of(load(SHAPE_7B), IDS, [0, 1, 2, 3])
    for layer in range(4):
        np.testing.assert_allclose(got[layer], expected[layer][0], rtol=0, atol=1e-6)


def test_7b_padded_equals_alone():
    model = load(SHAPE_7B)
    ids = torch.tensor([IDS, IDS[:4] + [0] * 7])
    with torch.inference_mode():
        batch = model(ids, torch.tensor([11, 4]), [1, 2, 3])
    alone = states_of(model, IDS[:4], [1, 2, 3])
    for layer in (1, 2, 3):
        np.testing.assert_allclose(batch[layer][1, :4], alone[layer], rtol=0, atol=1e-5)


def test_weights_end_in_the_compute_dtype_and_the_head_is_not_held():
    decoder = load(SHAPE_13B, dtype=torch.bfloat16).decoder
    assert {p.dtype for p in decoder.parameters()} == {torch.bfloat16}
    assert not any(p.is_meta or p.requires_grad for p in decoder.parameters())
    assert not any("lm_head" in name for name, _ in decoder.named_parameters())
    llama = load(SHAPE_7B, dtype=torch.bfloat16).model
    assert not any(p.is_meta for p in [*llama.parameters(), *llama.buffers()])
    assert {p.dtype for p in llama.parameters()} == {torch.bfloat16}
    assert llama.rotary_emb.inv_freq.dtype == torch.float32


def test_tensors_are_taken_one_by_one():
    """The checkpoint's tensors are let go as they are converted: never two copies of the model."""
    references, most_alive = [], 0

    def one_by_one():
        nonlocal most_alive
        for name, array in published_tensors(SHAPE_13B).items():
            tensor = torch.from_numpy(array)
            references.append(weakref.ref(tensor))
            yield name, tensor
            del tensor
            most_alive = max(most_alive, sum(ref() is not None for ref in references))

    load_baichuan(SHAPE_13B, one_by_one(), CPU, torch.bfloat16, "checkpoint")
    assert len(references) == 24
    assert most_alive <= 2


def test_missing_tensor():
    tensors = published_tensors(SHAPE_13B)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    with pytest.raises(UsageError, match=r"checkpoint: 1 tensors are missing.*layers\.1\.mlp\.up"):
        load(SHAPE_13B, tensors)


def test_missing_packed_attention_of_7b():
    tensors = published_tensors(SHAPE_7B)
    del tensors["model.layers.2.self_attn.W_pack.weight"]
    with pytest.raises(UsageError, match="3 tensors are missing"):
        load(SHAPE_7B, tensors)


@pytest.mark.parametrize("config", [SHAPE_13B, SHAPE_7B], ids=["13b", "7b"])
def test_unknown_tensor(config):
    tensors = published_tensors(config) | {"model.layers.0.extra.weight": np.zeros(3, np.float32)}
    with pytest.raises(UsageError, match=r"'layers\.0\.extra\.weight' is unknown"):
        load(config, tensors)


def test_tensor_of_another_shape():
    tensors = published_tensors(SHAPE_13B)
    tensors["model.norm.weight"] = np.ones(81, np.float32)
    with pytest.raises(UsageError, match=r"'norm\.weight': expected \[80\], got \[81\]"):
        load(SHAPE_13B, tensors)


def test_the_two_sizes_are_told_apart_by_the_config():
    assert uses_alibi(SHAPE_13B)
    assert not uses_alibi(SHAPE_7B)
    assert max_tokens(SHAPE_13B) == max_tokens(SHAPE_7B) == 64
    assert is_baichuan(SHAPE_7B)
    assert not is_baichuan({"model_type": "llama"})


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({**SHAPE_13B, "hidden_size": 4096}, "4096 without max_position_embeddings: neither 7B"),
        ({**SHAPE_7B, "hidden_size": 5120}, "5120 with max_position_embeddings: neither 7B"),
        ({"model_type": "baichuan", "hidden_size": 5120}, "expected vocab_size, intermediate_size"),
    ],
)
def test_a_config_that_is_neither_is_refused(config, reason):
    with pytest.raises(UsageError, match=f"checkpoint: config.json: .*{reason}"):
        check_config(config, "checkpoint")


@pytest.mark.parametrize("config", [SHAPE_13B, SHAPE_7B], ids=["13b", "7b"])
def test_a_config_as_published_is_taken(config):
    check_config(config, "checkpoint")


def test_parameters_of_the_published_13b():
    """13.90 billion with the head, as published; 13.25 without, which is what we hold."""
    config = {
        "vocab_size": 125696,
        "hidden_size": 5120,
        "intermediate_size": 13696,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
    }
    with torch.device("meta"):
        decoder = AlibiDecoder(DecoderShape.from_config(config))
    n_held = sum(p.numel() for p in decoder.parameters())
    assert n_held == 13_253_104_640
    assert n_held + 125696 * 5120 == 13_896_668_160
