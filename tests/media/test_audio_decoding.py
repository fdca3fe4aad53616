"""Samples: right numbers, right length, the same by both ways."""

import av
import numpy as np
import pytest
from media_factory import make_audio, make_video, make_wav, voice

from extractors.contract import ClipEmpty, ClipFailed
from extractors.media.audio import decode_audio
from extractors.media.blob import read_blob


def decode_both(path, rate_hz=16000):
    """Decode by PyAV and by the ffmpeg program; they must agree in every sample."""
    blob = read_blob("clip", path)
    here, there = (decode_audio(blob, rate_hz, program=program) for program in (False, True))
    assert here.shape == there.shape
    np.testing.assert_allclose(here, there, atol=1e-6, rtol=0)
    assert here.dtype == np.float32
    assert here.ndim == 1
    assert np.abs(here).max() <= 1
    np.testing.assert_array_equal(decode_audio(blob, rate_hz), here)
    return here


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_pcm_comes_back_as_it_was(tmp_path, bits):
    wanted = voice(0.5, 16000)[:, 0]
    offset = 0.5 if bits == 8 else 0  # 8-bit WAV is unsigned
    path = make_wav(tmp_path / "a.wav", samples=wanted + offset * 2, bits=bits)
    if bits == 8:
        raw = np.round(wanted * 128 + 128).astype(np.uint8).tobytes()
        path.write_bytes(path.read_bytes()[:44] + raw)
    came = decode_both(path)
    assert len(came) == 8000
    np.testing.assert_allclose(came, wanted, atol=2.0 ** (1 - bits) + 1e-7)


def test_mono_is_the_mean_of_channels(tmp_path):
    stereo = voice(0.3, 16000, channels=2)
    came = decode_both(make_wav(tmp_path / "a.wav", samples=stereo, bits=24))
    np.testing.assert_allclose(came, stereo.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("rate_hz", [8000, 11025, 22050, 44100, 48000])
def test_resampling_keeps_a_tone_and_the_length(tmp_path, rate_hz):
    times = np.arange(rate_hz) / rate_hz
    path = make_wav(
        tmp_path / "a.wav", samples=0.5 * np.sin(2 * np.pi * 440 * times), rate_hz=rate_hz
    )
    came = decode_both(path)
    assert len(came) == 16000
    wanted = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    np.testing.assert_allclose(came[200:-200], wanted[200:-200], atol=2e-3)


def test_other_rate_than_16000(tmp_path):
    path = make_wav(tmp_path / "a.wav", seconds=0.5, rate_hz=16000)
    assert len(decode_both(path, rate_hz=24000)) == 12000
    assert len(decode_both(path, rate_hz=16000)) == 8000


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        ("aac", "a.m4a"), ("aac", "a.mp4"), ("mp3", "a.mp3"), ("flac", "a.flac"), ("libopus", "a.opus"),
        ("libopus", "a.webm"), ("pcm_s16le", "a.wav"), ("pcm_f32le", "a.wav"), ("flac", "a.mkv"),
    ],
)  # fmt: skip
def test_codecs_give_the_duration_that_went_in(tmp_path, codec, name):
    path = make_audio(tmp_path / name, seconds=1.5, rate_hz=48000, channels=2, codec=codec)
    came = decode_both(path)
    assert len(came) == 24000
    wanted = voice(1.5, 48000, channels=2).mean(axis=1)[::3]
    assert np.corrcoef(came[2000:-2000], wanted[2000:-2000])[0, 1] > 0.95  # aligned, not shifted


@pytest.mark.parametrize("seconds", [0.31, 1.0, 2.017])
def test_padding_of_the_encoder_is_cut(tmp_path, seconds):
    """AAC comes in blocks of 1024: without the rule, decoders differ by up to a block."""
    came = decode_both(make_video(tmp_path / "a.mp4", seconds=seconds, rate_hz=44100))
    assert len(came) == round(round(seconds * 44100) * 16000 / 44100)


def test_only_mp4_states_the_duration_to_the_sample(tmp_path):
    """Elsewhere the decoder's last sample is the end, padding included: whole blocks of 1024."""
    came = decode_both(make_audio(tmp_path / "a.ts", seconds=1.5, rate_hz=16000), rate_hz=16000)
    assert len(came) % 1024 == 0
    assert len(decode_both(make_audio(tmp_path / "a.mp4", seconds=1.5, rate_hz=16000))) == 24000


def test_first_stream_is_taken(tmp_path):
    path = make_video(tmp_path / "a.mkv", n_audio_streams=2, audio_codec="flac", rate_hz=16000)
    np.testing.assert_allclose(decode_both(path), voice(1.0, 16000, seed=0)[:, 0], atol=1e-4)


def test_default_flag_wins_over_order(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        tracks = [container.add_stream("pcm_s16le", rate=16000, layout="mono") for _ in range(2)]
        tracks[0].disposition, tracks[1].disposition = 0, av.stream.Disposition.default
        for track, level in zip(tracks, (0.1, 0.4), strict=True):
            flat = np.full((1, 16000), level * 2**15, np.int16)
            frame = av.AudioFrame.from_ndarray(flat, format="s16", layout="mono")
            frame.sample_rate = 16000
            container.mux(track.encode(frame))
            container.mux(track.encode(None))
    assert decode_both(tmp_path / "a.mkv").mean() == pytest.approx(0.4, abs=1e-3)


def test_ten_milliseconds_and_silence_are_samples(tmp_path):
    assert len(decode_both(make_wav(tmp_path / "a.wav", seconds=0.01))) == 160
    assert not decode_both(make_wav(tmp_path / "b.wav", samples=np.zeros(1600))).any()


def test_one_sample(tmp_path):
    assert len(decode_both(make_wav(tmp_path / "a.wav", samples=[0.5], rate_hz=48000))) == 1


@pytest.mark.parametrize("program", [False, True])
def test_no_audio_track_is_empty(tmp_path, program):
    blob = read_blob("a", make_video(tmp_path / "a.mp4", audio=False))
    with pytest.raises(ClipEmpty, match="no audio track"):
        decode_audio(blob, program=program)


def test_audio_track_without_samples_is_empty(tmp_path):
    with pytest.raises(ClipEmpty, match="no samples"):
        decode_audio(read_blob("a", make_wav(tmp_path / "a.wav", samples=np.zeros(0))))


def test_loud_audio_is_clipped_and_nan_refused(tmp_path):
    for name, values in (("loud.wav", [3.0, -3.0]), ("nan.wav", [0.1, np.nan])):
        with av.open(str(tmp_path / name), "w") as container:
            track = container.add_stream("pcm_f32le", rate=16000, layout="mono")
            samples = np.tile(np.array(values, np.float32), 400)[None]
            frame = av.AudioFrame.from_ndarray(samples, format="flt", layout="mono")
            frame.sample_rate = 16000
            container.mux(track.encode(frame))
    assert set(decode_both(tmp_path / "loud.wav")) == {1.0, -1.0}
    with pytest.raises(ClipFailed, match="NaN"):
        decode_audio(read_blob("a", tmp_path / "nan.wav"))


def test_decoders_agree_on_real_media(any_media):
    for name in ("speech.mp4", "dialogue.wav"):
        assert len(decode_both(any_media[name])) > 16000


@pytest.mark.real_media
def test_lengths_of_real_media(real_media):
    lengths = {
        name: len(decode_both(path)) for name, path in real_media.items() if name != "passenger.mp4"
    }
    # speech.mp4 decodes to 139,947 samples; its container states 8.7133 s.
    assert lengths["speech.mp4"] == 139413
    assert lengths["dialogue.wav"] == 480000
