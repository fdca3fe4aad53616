"""What is in the store against the model library called directly, clip by clip, in float32."""

import numpy as np
import pytest
import sentencepiece
import torch
from checkpoint_factory import save_hubert
from media_factory import make_wav, voice
from text.baichuan_statement import SHAPE_7B, SHAPE_13B, hidden_states, published_tensors
from text.written_checkpoints import write_baichuan
from transformers import HubertModel, LlamaConfig, LlamaModel
from visual.clip_folders import Reference, save_clip

from extractors.contract import ExtractorRequest
from mer_store.clips.clip_list import Clip, ClipList
from mer_store.store.store import Store
from pipelines.extract import ExtractSettings, prepare

LENGTHS_S = (0.03, 0.4, 1.0, 0.7, 2.3, 0.401, 1.7)


def extract(folder, modality, clips, model, faces="auto", **settings) -> Store:
    store = Store.create(folder / "store")
    request = ExtractorRequest(modality, str(model), device="cpu", faces=faces)
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


def test_clip_against_its_own_processor_and_model(tmp_path):
    reference = Reference(save_clip(tmp_path / "model"))
    crops, clips = {}, []
    for number, n_images in enumerate((1, 5, 3)):
        pictures = np.random.default_rng(number).integers(0, 255, (n_images, 112, 112, 3), np.uint8)
        path = tmp_path / f"v{number}.npy"
        np.save(path, pictures[..., ::-1])  # blue first, as OpenFace's crops lie on disk
        crops[path.stem] = pictures
        clips.append(Clip(path.stem, path, None, None, None, None))
    store = extract(
        tmp_path, "visual", clips, tmp_path / "model", layers="embed,0,3", faces="openface"
    )
    ids = list(crops)
    features = store.features("visual", level="frame")
    embeds = features.ragged(layers=["embed"], clip_ids=ids)
    hidden = features.ragged(layers=[0, 3], clip_ids=ids)
    pooled = store.features("visual", level="utterance").read(layers=["embed"], clip_ids=ids)
    for number, clip_id in enumerate(ids):
        expected = reference.embed(crops[clip_id])
        assert relative(embeds[number][:, 0], expected) <= 1e-5
        assert relative(pooled[number, 0], expected.mean(axis=0)) <= 1e-5
        states = [reference.hidden(reference.pixels(image)) for image in crops[clip_id]]
        for column, layer in enumerate((0, 3)):
            expected = np.concatenate([state[layer] for state in states])
            assert relative(hidden[number][:, column], expected) <= 1e-5


@pytest.mark.parametrize("shape", [SHAPE_7B, SHAPE_13B], ids=["7B", "13B"])
def test_baichuan2_against_its_architecture(tmp_path, shape):
    write_baichuan(tmp_path / "model", shape)
    texts = {"a": "你好吗", "b": "我今天真的很开心 不要担心", "c": "OK 好"}
    clips = [Clip(clip_id, None, text, None, None, None) for clip_id, text in texts.items()]
    store = extract(tmp_path, "text", clips, tmp_path / "model", batch_limit=40)
    layers = list(range(shape["num_hidden_layers"] + 1))
    frames = store.features("text", level="frame").ragged(layers=layers, clip_ids=list(texts))
    pooled = store.features("text", level="utterance").read(layers=layers, clip_ids=list(texts))
    tokens = sentencepiece.SentencePieceProcessor(
        model_file=str(tmp_path / "model" / "tokenizer.model")
    )
    for (clip_id, text), rows, means in zip(texts.items(), frames, pooled, strict=True):
        ids = tokens.encode(text)
        if shape is SHAPE_7B:
            states = llama_states(shape, ids)
        else:
            states = hidden_states(ids, published_tensors(shape), shape)
        for layer in layers:
            assert relative(rows[:, layer], states[layer]) <= 1e-5, (clip_id, layer)
            assert relative(means[layer], states[layer].mean(axis=0)) <= 1e-5, (clip_id, layer)


def llama_states(shape, ids):
    """Transformers' own Llama, with Baichuan2's stacked weights split into q, k and v."""
    keys = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
    )
    rope = {"rope_type": "default", "rope_theta": 10000.0}
    sizes = {key: shape[key] for key in keys}
    model = LlamaModel(LlamaConfig(**sizes, rms_norm_eps=1e-6, rope_parameters=rope)).eval()
    weights = {}
    for name, array in published_tensors(shape).items():
        short = name.removeprefix("model.")
        if "W_pack" in name:
            for part, rows in zip("qkv", np.split(array, 3), strict=True):
                weights[short.replace("W_pack", f"{part}_proj")] = torch.from_numpy(rows.copy())
        elif short in model.state_dict():
            weights[short] = torch.from_numpy(array)
    model.load_state_dict(weights)
    with torch.inference_mode():
        states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states
    return [state[0].numpy() for state in states]
