"""What becomes of short, silent, long and unfit clips, and of models that are no speech models."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from audio_clips import voice, write_clip, write_wav
from checkpoint_factory import save_hubert, save_hubert_base, save_wavlm
from extractor_contract import assert_same_states

from extractors.audio import extractor as extractor_module
from extractors.contract import ClipEmpty, ClipFailed, ExtractorRequest, Loaded, Source, Want
from extractors.models.speech import SpeechModel
from extractors.table import build_extractor
from mer_store.errors import UsageError


def audio(model="tiny", **settings):
    return build_extractor(ExtractorRequest("audio", model=str(model), device="cpu", **settings))


@pytest.fixture(scope="module")
def tiny():
    return audio()


def load(extractor, path):
    return extractor.load(extractor.open(Source("clip", path)))


@pytest.mark.parametrize("recipe", ["default", "mertools2024"])
@pytest.mark.parametrize(("n_samples", "length"), [(160, "10 ms"), (399, "24.9 ms")])
def test_too_short_for_a_frame_is_empty(recipe, n_samples, length, tmp_path):
    path = write_wav(tmp_path / "short.wav", voice(n_samples))
    with pytest.raises(ClipEmpty) as raised:
        load(audio(recipe=recipe), path)
    expected = f"{length} of audio ({n_samples} samples): under the 400 the model needs"
    assert str(raised.value) == expected


def test_exactly_400_samples_give_one_row(tiny, tmp_path):
    loaded = load(tiny, write_wav(tmp_path / "one.wav", voice(400)))
    assert loaded.n_frames == 1
    states = tiny([loaded], Want((18,), (18,)))[0]
    assert states.frame[18].shape == (1, 32)
    np.testing.assert_allclose(states.frame[18][0], states.utterance[18], rtol=1e-6)


@pytest.mark.parametrize("peak", [0.0, 0.9])
def test_digital_silence_is_empty(tiny, peak, tmp_path, monkeypatch):
    samples = np.full(16_000, peak * 2.0**-15, np.float32)
    monkeypatch.setattr(extractor_module, "decode_audio", lambda blob, rate_hz: samples)
    with pytest.raises(ClipEmpty, match=r"^silence$"):
        load(tiny, write_wav(tmp_path / "any.wav", voice(1000)))
    assert "3.0517578125e-05" in tiny.identity.preprocessing["silence"]


def test_the_softest_sound_is_no_silence(tiny, tmp_path):
    samples = np.zeros(16_000, np.float32)
    samples[5000] = 2.0**-15
    loaded = load(tiny, write_wav(tmp_path / "soft.wav", samples))
    assert np.isfinite(tiny([loaded], Want(utterance=(18,)))[0].utterance[18]).all()


def test_mertools_keeps_silence_as_published(tmp_path):
    extractor = audio(recipe="mertools2024")
    loaded = load(extractor, write_wav(tmp_path / "silence.wav", np.zeros(16_000, np.float32)))
    assert not loaded.payload.any()
    states = extractor([loaded], Want(utterance=("last4sum",)))[0]
    assert np.isfinite(states.utterance["last4sum"]).all()


def test_a_clip_without_a_path_fails(tiny):
    assert tiny.path(Source("clip")) is None
    with pytest.raises(ClipFailed, match="no media file"):
        tiny.open(Source("clip"))


@pytest.mark.parametrize(("save", "limit_s"), [(save_hubert_base, 300), (save_wavlm, 120)])
def test_models_without_bounded_memory_refuse_long_clips(save, limit_s, tmp_path, monkeypatch):
    extractor = audio(save(tmp_path / "model"))
    path = write_wav(tmp_path / "any.wav", voice(1000))

    def decodes_to(n_samples):
        monkeypatch.setattr(
            extractor_module, "decode_audio", lambda blob, rate_hz: long[:n_samples]
        )

    long = voice((limit_s + 10) * 16_000)
    decodes_to(limit_s * 16_000)
    assert load(extractor, path).media_s == limit_s
    decodes_to(None)
    with pytest.raises(ClipFailed) as raised:
        load(extractor, path)
    expected = f"too long: {limit_s + 10} s of audio; model needs too much memory over {limit_s} s"
    assert str(raised.value).startswith(expected)


def test_large_models_take_clips_of_any_length(tiny):
    assert tiny._speech_model.max_samples is None
    assert not tiny.equal_sizes


def test_only_models_that_padding_changes_want_equal_sizes(tmp_path):
    assert audio(save_hubert_base(tmp_path / "base")).equal_sizes
    assert not audio(save_wavlm(tmp_path / "wavlm")).equal_sizes


def test_a_layer_that_is_not_there_is_named(tiny, tmp_path):
    loaded = load(tiny, write_clip(tmp_path, 800).path)
    with pytest.raises(UsageError, match=r"no layer 25; tiny offers 0-24"):
        tiny([loaded], Want(utterance=(25,)))


def test_default_layers_lie_at_the_same_depth(tmp_path):
    extractor = audio(save_hubert(tmp_path / "m", num_hidden_layers=12, hidden_size=16))
    assert extractor.identity.default_layers == (8, 9, 10)
    assert set(extractor.identity.widths.values()) == {16}


class OutOfMemoryAbove:
    """Stands for a GPU: raises as torch does where a padded batch holds more than `n_most` samples."""

    def __init__(self, states, n_most):
        self.states, self.n_most, self.asked = states, n_most, []

    def __call__(self, waveforms, layers):
        self.asked.append(len(waveforms))
        if len(waveforms) * max(map(len, waveforms)) > self.n_most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.states(waveforms, layers)


def some_loaded(extractor, folder, n_clips=5):
    return [load(extractor, write_clip(folder, 4000 + 700 * i, i).path) for i in range(n_clips)]


def test_a_batch_too_large_for_the_device_is_halved(tmp_path):
    extractor = audio()
    loaded = some_loaded(extractor, tmp_path)
    want = Want((17, 18), (15,))
    expected = extractor(loaded, want)
    small = extractor._states = OutOfMemoryAbove(extractor._states, 20_000)
    for asked in (
        [5, 3, 2],
        [3, 2],
    ):  # 4,000 to 6,800 samples; what was too much once is not tried again
        small.asked.clear()
        for states, same in zip(extractor(loaded, want), expected, strict=True):
            assert_same_states(states, same)
        assert small.asked == asked
    assert extractor.batch_limit == 17_000


def test_a_clip_too_large_for_the_device_fails_alone(tmp_path):
    extractor = audio()
    loaded = some_loaded(extractor, tmp_path, 2)
    extractor._states = OutOfMemoryAbove(extractor._states, 0)
    for problem, length in zip(
        extractor(loaded, Want(utterance=(18,))), ("0.2", "0.3"), strict=True
    ):
        assert isinstance(problem, ClipFailed)
        assert str(problem) == f"no memory on cpu for {length} s of audio"


def test_payloads_are_left_alone(tiny, tmp_path):
    (loaded,) = some_loaded(tiny, tmp_path, 1)
    before = loaded.payload.copy()
    tiny([loaded], Want(utterance=(24,)))
    np.testing.assert_array_equal(loaded.payload, before)
    assert isinstance(loaded, Loaded)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"recipe": "mertools1999"},
            "recipe 'mertools1999': expected one of default, mertools2024",
        ),
        ({"compute_dtype": "float16"}, "float16: only on a GPU"),
        ({"compute_dtype": "int8"}, "expected auto, float32"),
    ],
)
def test_wrong_requests_are_refused_before_any_work(settings, message):
    with pytest.raises(UsageError, match=message):
        audio(**settings)


def test_a_model_of_another_kind_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "whisper"}))
    with pytest.raises(
        UsageError, match=r"expected model_type hubert, wav2vec2, wavlm; got 'whisper'"
    ):
        audio(tmp_path)


def test_a_model_for_another_rate_is_refused(tmp_path):
    folder = save_hubert(tmp_path / "model")
    (folder / "preprocessor_config.json").write_text('{"sampling_rate": 8000}')
    with pytest.raises(UsageError, match="sampling_rate: expected 16000, got 8000"):
        audio(folder)


def test_settings_that_transformers_5_nests_in_the_processor_are_read(tmp_path):
    folder = save_hubert(tmp_path / "model")
    (folder / "preprocessor_config.json").unlink()
    assert audio(folder).identity.preprocessing["normalisation"].startswith("mean 0")
    nested = {"feature_extractor": {"do_normalize": False, "sampling_rate": 16000}}
    (folder / "processor_config.json").write_text(json.dumps(nested))
    assert audio(folder).identity.preprocessing["normalisation"] == "none"


def test_weights_that_do_not_fit_are_refused(tmp_path):
    folder = save_hubert(tmp_path / "model", num_hidden_layers=2)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    extractor = audio(folder)
    (loaded,) = some_loaded(extractor, tmp_path, 1)
    with pytest.raises(UsageError, match=r"the weights lack encoder\.layers\.2\..* and 1\d more"):
        extractor([loaded], Want(utterance=(1,)))


def test_frames_are_counted_as_the_convolutions_do(tiny):
    model = tiny._speech_model
    assert isinstance(model, SpeechModel)
    assert (model.n_window, model.n_hop) == (400, 320)
    for n_samples in (0, 1, 399, 400, 719, 720, 16_000, 123_457):
        assert model.n_frames(n_samples) == max(0, (n_samples - 400) // 320 + 1)


def test_batches_are_sized_to_the_memory_there_is(monkeypatch):
    def limit(n_free_bytes):
        monkeypatch.setattr(
            "extractors.models.memory.free_bytes", lambda device: n_free_bytes, raising=True
        )
        extractor = audio()
        extractor._device = torch.device("cuda", 0)
        return extractor.batch_limit

    assert audio().batch_limit == 2 * 16000
    assert limit(10**12) == 320 * 16000
    assert limit(20 * 10**6) == 10 * 16000  # a second takes 1 MB at width 32
    assert limit(0) == 1


def test_weights_too_large_for_the_device_are_no_clips_fault(tmp_path):
    def load_too_much():
        raise torch.OutOfMemoryError("CUDA out of memory")

    extractor = audio()
    loaded = some_loaded(extractor, tmp_path, 2)
    extractor._speech_model = replace(extractor._speech_model, build=load_too_much)
    with pytest.raises(UsageError, match="model tiny: its weights in float32 do not fit"):
        extractor(loaded, Want(utterance=(18,)))
