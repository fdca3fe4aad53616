"""Every row equals what the transformers model gives, called directly, clip by clip."""

import numpy as np
import pytest
import torch
import transformers
from audio_clips import (
    RATE_HZ,
    mertools_states,
    published_states,
    samples_of,
    voice,
    write_clip,
    write_wav,
)
from checkpoint_factory import (
    save_hubert,
    save_hubert_base,
    save_wav2vec2,
    save_wavlm,
    save_wavlm_base,
)
from extractor_contract import relative

from extractors.batching import batches
from extractors.contract import ExtractorRequest, Source, Want
from extractors.models.tiny import tiny_hubert
from extractors.table import build_extractor

LENGTHS = (400, 16_000, 50_321, 7_999, 719, 720, 31_000, 16_010)
CLOSE = 1e-5
CLOSE_SUMS = 5e-5
"""Of four layers, over chunks that transformers is given in one batch and we in several."""


def audio(model="tiny", **settings):
    return build_extractor(ExtractorRequest("audio", model=str(model), device="cpu", **settings))


def load(extractor, sources):
    return [extractor.load(extractor.open(source)) for source in sources]


def in_batches(extractor, loaded, want, limit):
    """States by clip id, computed as the engine would."""
    return {
        clip.clip_id: states
        for batch in batches(loaded, limit, equal_sizes=extractor.equal_sizes)
        for clip, states in zip(batch, extractor(batch, want), strict=True)
    }


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return [write_clip(folder, n, seed) for seed, n in enumerate(LENGTHS)]


def assert_published(extractor, model, sources, do_normalize=True):
    layers = extractor.identity.layers
    got = in_batches(extractor, load(extractor, sources), Want(layers, layers), limit=200_000)
    for source in sources:
        samples = samples_of(source)
        expected = published_states(model, samples, do_normalize)
        assert expected.shape[:2] == (len(layers), (len(samples) - 400) // 320 + 1)
        for layer, states in zip(layers, expected, strict=True):
            assert relative(got[source.clip_id].frame[layer], states) <= CLOSE, layer
            mean = states.astype(np.float64).mean(0)
            assert relative(got[source.clip_id].utterance[layer], mean) <= CLOSE, layer


def test_all_25_states_of_large_hubert_in_mixed_batches(sources):
    extractor = audio()
    assert extractor.identity.layers == tuple(range(25))
    assert extractor.identity.default_layers == tuple(range(16, 22))
    assert_published(extractor, tiny_hubert().model, sources)


@pytest.mark.parametrize(
    ("save", "family", "changes"),
    [
        (save_hubert, "Hubert", {}),
        (save_hubert, "Hubert", {"do_stable_layer_norm": False}),
        (save_hubert, "Hubert", {"do_normalize": False}),
        (save_hubert, "Hubert", {"as_bin": True}),
        (save_hubert, "Hubert", {"conv_pos_batch_norm": True}),
        (save_hubert_base, "Hubert", {}),
        (save_wav2vec2, "Wav2Vec2", {}),
        (save_wav2vec2, "Wav2Vec2", {"do_stable_layer_norm": False}),
        (save_wavlm, "WavLM", {}),
        (save_wavlm_base, "WavLM", {}),
    ],
)
def test_every_family_of_models(save, family, changes, sources, tmp_path):
    folder = save(tmp_path / "model", **changes)
    extractor = audio(folder)
    assert extractor.identity.trained
    assert extractor.identity.model == "model"
    model = getattr(transformers, f"{family}Model")
    if changes.get("as_bin"):
        assert not (folder / "model.safetensors").exists()
    assert_published(
        extractor,
        model.from_pretrained(folder).eval(),
        sources,
        do_normalize=changes.get("do_normalize", True),
    )


def test_padding_without_a_mask_would_show(sources):
    """The batches above do mix lengths: without our mask the shorter clip is far off."""
    model = tiny_hubert().model
    short, long = (samples_of(source) for source in (sources[1], sources[2]))
    padded = np.zeros((2, len(long)), np.float32)
    padded[0, : len(short)], padded[1] = short, long
    with torch.no_grad():
        unmasked = model(torch.from_numpy(padded)).last_hidden_state[0, :49].numpy()
    alone = published_states(model, short, do_normalize=False)[-1]
    assert relative(unmasked, alone) > 0.05


def test_layers_16_to_21_are_the_outputs_of_blocks_16_to_21(sources):
    model = tiny_hubert().model
    outputs = {}
    for number in range(16, 22):
        model.encoder.layers[number - 1].register_forward_hook(
            lambda module, args, output, number=number: outputs.update({number: output[0].numpy()})
        )
    published_states(model, samples_of(sources[1]))
    extractor = audio()
    states = extractor(load(extractor, [sources[1]]), Want(frame=tuple(range(16, 22))))[0]
    for number, rows in states.frame.items():
        assert relative(rows, outputs[number]) <= CLOSE


def test_no_block_above_the_highest_wanted_layer_runs(sources):
    extractor = audio()
    loaded = load(extractor, sources[:3])
    full = extractor(loaded, Want(utterance=tuple(range(25)), frame=(15,)))
    ran = []
    for number, block in enumerate(extractor._states._model.encoder.layers, start=1):
        block.register_forward_pre_hook(lambda module, args, number=number: ran.append(number))
    cut = extractor(loaded, Want(utterance=(3, 18), frame=(15,)))
    assert ran == list(range(1, 19))
    for states, expected in zip(cut, full, strict=True):
        np.testing.assert_array_equal(states.utterance[18], expected.utterance[18])
        np.testing.assert_array_equal(states.frame[15], expected.frame[15])
    ran.clear()
    extractor(loaded, Want(utterance=(0,)))
    assert ran == []


def test_the_last_layer_alone_carries_the_final_norm(sources):
    extractor = audio()
    norm = extractor._states._model.encoder.layer_norm
    gains, shifts = norm.weight.numpy(), norm.bias.numpy()
    states = extractor(load(extractor, [sources[2]]), Want(frame=(23, 24)))[0]
    undone = (states.frame[24] - shifts) / gains
    np.testing.assert_allclose(undone.mean(1), 0, atol=1e-5)
    np.testing.assert_allclose(undone.std(1), 1, atol=1e-3)
    assert np.abs((states.frame[23] - shifts) / gains).std() > 1.5


@pytest.mark.parametrize("n_samples", [159_999, 160_000, 161_600, 320_001])
def test_mertools_recipes_equal_a_plain_statement(n_samples, tmp_path):
    source = write_clip(tmp_path, n_samples)
    expected = mertools_states(tiny_hubert().model, samples_of(source))
    for recipe, layer, rows in (
        ("mertools2024", "last4sum", expected[-4:].sum(0)),
        ("mertools2023", 24, expected[-1]),
    ):
        extractor = audio(recipe=recipe)
        assert extractor.identity.layers == extractor.identity.default_layers == (layer,)
        (loaded,) = load(extractor, [source])
        states = extractor([loaded], Want((layer,), (layer,)))[0]
        assert len(states.frame[layer]) == loaded.n_frames
        assert relative(states.frame[layer], rows) <= CLOSE_SUMS
        assert relative(states.utterance[layer], rows.astype(np.float64).mean(0)) <= CLOSE_SUMS


def test_mertools_counts_the_frames_of_its_filling(tmp_path):
    extractor = audio(recipe="mertools2024")
    (loaded,) = load(extractor, [write_clip(tmp_path, 161_600)])  # 10.1 s
    assert loaded.n_frames == 998
    assert loaded.media_s == 10.1
    assert loaded.size == 320_000


def test_mertools_of_a_long_clip_stays_within_the_batch_limit(tmp_path):
    extractor = audio(recipe="mertools2024")
    source = write_clip(tmp_path, 500_000)
    (loaded,) = load(extractor, [source])
    n_rows = []
    extractor._states._model.feature_extractor.register_forward_pre_hook(
        lambda module, args: n_rows.append(len(args[0]))
    )
    states = extractor([loaded], Want(utterance=("last4sum",)))[0]
    assert n_rows == [1, 1, 1, 1]
    expected = mertools_states(tiny_hubert().model, samples_of(source))[-4:].sum(0).mean(0)
    assert relative(states.utterance["last4sum"], expected) <= CLOSE_SUMS


def test_long_clips_go_through_the_front_in_pieces_with_the_same_numbers(tmp_path):
    n_samples = 75 * RATE_HZ + 123
    source = Source("long", write_wav(tmp_path / "long.wav", voice(n_samples)))
    extractor = audio()
    loaded = load(extractor, [source])
    n_pieces = []
    extractor._states._model.feature_extractor.register_forward_pre_hook(
        lambda module, args: n_pieces.append(args[0].shape[1])
    )
    states = extractor(loaded, Want((12,), (0, 1)))[0]
    assert len(n_pieces) == 3
    assert max(n_pieces) <= 30 * RATE_HZ + 400
    whole = published_states(tiny_hubert().model, samples_of(source))
    for layer in (0, 1):
        assert relative(states.frame[layer], whole[layer]) <= CLOSE
    assert relative(states.utterance[12], whole[12].mean(0, dtype=np.float64)) <= CLOSE


def test_half_precision_does_not_depend_on_what_else_is_wanted(sources):
    """A generator that left inference mode at each yield once switched autocast off behind it."""
    half = audio(compute_dtype="bfloat16")
    (loaded,) = load(half, sources[1:2])
    alone = half([loaded], Want(frame=(21,)))[0].frame[21]
    for others in ((0,), (16, 17, 18), tuple(range(21))):
        among = half([loaded], Want(frame=(*others, 21)))[0].frame[21]
        np.testing.assert_array_equal(among, alone)
    spec = half.identity.preprocessing
    assert "half_precision" in spec
    assert spec.items() > audio().identity.preprocessing.items()


def test_half_precision_keeps_two_digits(sources):
    exact, half = audio(), audio(compute_dtype="bfloat16")
    assert half.identity.compute_dtype == "bfloat16"
    want = Want(utterance=(0, 12, 18, 24))
    loaded = load(exact, sources[1:4])
    for states, expected in zip(half(loaded, want), exact(loaded, want), strict=True):
        for layer, row in states.utterance.items():
            assert row.dtype == np.float32
            assert 0 < relative(row, expected.utterance[layer]) < 0.05
