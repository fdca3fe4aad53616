"""Audio files made by code, and the published way of computing their features, stated plainly."""

import wave

import numpy as np
import torch
from transformers import Wav2Vec2FeatureExtractor

from extractors.contract import Source
from extractors.media.audio import decode_audio
from extractors.media.blob import read_blob

RATE_HZ = 16000


def voice(n_samples, seed=0):
    """Sound with the ups and downs of speech, float32 [N] within 16-bit audio."""
    rng = np.random.default_rng(seed)
    t = np.arange(n_samples) / RATE_HZ
    tones = sum(np.sin(2 * np.pi * f * t + rng.uniform(0, 6)) for f in rng.uniform(80, 3000, 5))
    loudness = 0.6 + 0.4 * np.sin(2 * np.pi * 3 * t)
    return (0.08 * tones * loudness + 0.02 * rng.standard_normal(n_samples) + 0.01).astype(
        np.float32
    )


def write_wav(path, samples):
    """Write 16-bit mono at 16 kHz."""
    steps = np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(steps.tobytes())
    return path


def write_clip(folder, n_samples, seed=0):
    path = write_wav(folder / f"{n_samples}-{seed}.wav", voice(n_samples, seed))
    return Source(f"v{n_samples}-{seed}", path)


def samples_of(source):
    return decode_audio(read_blob(source.clip_id, source.path), RATE_HZ)


@torch.no_grad()
def published_states(model, samples, do_normalize=True):
    """hidden_states[:-1] + (last_hidden_state,) of one clip, [L, T, D], by transformers alone."""
    prepare = Wav2Vec2FeatureExtractor(do_normalize=do_normalize)
    inputs = prepare(samples, sampling_rate=RATE_HZ, return_tensors="pt").input_values
    output = model(inputs, output_hidden_states=True)
    return torch.stack((*output.hidden_states[:-1], output.last_hidden_state))[:, 0].numpy()


@torch.no_grad()
def mertools_states(model, samples):
    """The same over 10 s chunks of a clip filled up with zeros, [L, T, D], frames of all chunks in a row."""
    prepare = Wav2Vec2FeatureExtractor(do_normalize=True)
    inputs = prepare(samples, sampling_rate=RATE_HZ, return_tensors="pt").input_values
    if inputs.shape[1] > 160_000:
        n_chunks = -(-inputs.shape[1] // 160_000)
        filled = torch.zeros(1, n_chunks * 160_000)
        filled[:, : inputs.shape[1]] = inputs
        inputs = filled.reshape(n_chunks, 160_000)
    output = model(inputs, output_hidden_states=True)
    states = torch.stack((*output.hidden_states[:-1], output.last_hidden_state))
    return states.flatten(1, 2).numpy()
