"""What is in the store against the model library called directly, clip by clip, in float32."""

import numpy as np
import pytest
import torch
from checkpoint_factory import save_hubert
from media_factory import make_wav, voice
from transformers import HubertModel

from extractors.contract import ExtractorRequest
from mer_store.clips.clip_list import Clip, ClipList
from mer_store.store.store import Store
from pipelines.extract import ExtractSettings, prepare

LENGTHS_S = (0.03, 0.4, 1.0, 0.7, 2.3, 0.401, 1.7)


def extract(folder, modality, clips, model, **settings) -> Store:
    store = Store.create(folder / "store")
    request = ExtractorRequest(modality, str(model), device="cpu")
    settings = {"level": "both", "stored_dtype": "float32", "layers": "all", **settings}
    prepare(store, ClipList(tuple(clips)), ExtractSettings(request, **settings)).run()
    return store


def relative(got, expected):
    return np.abs(got - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("batch_limit", [None, 1, 200_000])
def test_hubert_all_25_states(tmp_path, batch_limit):
    save_hubert(tmp_path / "model", num_hidden_layers=24)
    clips = []
    for number, length_s in enumerate(LENGTHS_S):
        path = make_wav(tmp_path / f"c{number}.wav", length_s, seed=number, bits=32)
        clips.append(Clip(f"c{number}", path, None, None, None, None))
    store = extract(
        tmp_path, "audio", clips, tmp_path / "model", batch_limit=batch_limit, part_clips=4
    )
    layers = list(range(25))
    ids = [clip.clip_id for clip in clips]
    frames = store.features("audio", level="frame").ragged(layers=layers, clip_ids=ids)
    pooled = store.features("audio", level="utterance").read(layers=layers, clip_ids=ids)
    model = HubertModel.from_pretrained(tmp_path / "model").eval()
    for number, length_s in enumerate(LENGTHS_S):
        wave = voice(length_s, 16_000, seed=number)[:, 0].astype(np.float64)
        wave = ((wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)).astype(np.float32)
        with torch.inference_mode():
            output = model(torch.from_numpy(wave)[None], output_hidden_states=True)
        states = [*output.hidden_states[:-1], output.last_hidden_state]
        for layer, state in enumerate(states):
            expected = state[0].numpy()
            assert frames[number].shape[0] == len(expected)
            assert relative(frames[number][:, layer], expected) <= 1e-5, (number, layer)
            assert relative(pooled[number, layer], expected.mean(axis=0)) <= 1e-5, (number, layer)


def test_layers_16_to_21_are_the_outputs_of_blocks_16_to_21(tmp_path):
    save_hubert(tmp_path / "model", num_hidden_layers=24)
    path = make_wav(tmp_path / "c.wav", 1.0, bits=32)
    clip = Clip("c", path, None, None, None, None)
    store = extract(tmp_path, "audio", [clip], tmp_path / "model", layers="16-21")
    [rows] = store.features("audio", level="frame").ragged(
        layers=list(range(16, 22)), clip_ids=["c"]
    )
    model = HubertModel.from_pretrained(tmp_path / "model").eval()
    outputs = {}
    for block in range(16, 22):
        layer = model.encoder.layers[block - 1]  # block 16 is the 16th
        layer.register_forward_hook(
            lambda module, args, output, block=block: outputs.update({block: output[0]})
        )
    wave = voice(1.0, 16_000)[:, 0].astype(np.float64)
    wave = ((wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)).astype(np.float32)
    with torch.inference_mode():
        model(torch.from_numpy(wave)[None])
    for column, block in enumerate(range(16, 22)):
        expected = outputs[block].numpy().reshape(rows[:, column].shape)
        assert relative(rows[:, column], expected) <= 1e-5, block
