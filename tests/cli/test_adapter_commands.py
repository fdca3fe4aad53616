"""From sound to adapted features by commands alone: extract, train adapter, extract --adapter."""

import json

import pytest
from audio_clips import voice, write_wav
from checkpoint_factory import save_hubert

from extractors.models.saved_adapter import load_adapter
from mer_store.store.store import Store

N_CLIPS = 12


@pytest.fixture
def cached(shell):
    """A folder with a model and a store that holds layers 3 to 6, layer 3 of frames too."""
    save_hubert(shell.folder / "hubert")
    rows = []
    for n in range(N_CLIPS):
        write_wav(shell.folder / f"c{n}.wav", voice(4_000 + 500 * n, seed=n))
        rows.append(f"c{n},c{n}.wav,{('anger', 'worry')[n % 2]},labelled")
    shell.clip_list(*rows, header="clip_id,path,label,split")
    shell("extract --modality audio --model hubert --layers 3-6 --frame-layers 3 --device cpu")
    return shell


def settings(**changes):
    values = {
        "model": "hubert", "layers": "4-6", "frames.layers": "3", "start_layer": 5, "bottleneck": 4,
        "epochs": 1, "n_folds": 2, **changes,
    }  # fmt: skip
    return " ".join(f"--set {name}={value}" for name, value in values.items())


@pytest.mark.parametrize("site", ["blocks", "outputs"])
def test_from_sound_to_adapted_features(cached, site):
    run = cached(f"train adapter --device cpu {settings(site=site)}").stdout.strip()
    assert "\n" not in run
    for n in range(N_CLIPS):
        (cached.folder / f"c{n}.wav").unlink()
    (cached.folder / "mer-store.toml").write_text(
        '[extract.audio]\nlayers = "3"\nframe_layers = "3"\nrecipe = "default"\n'
    )
    command = f"extract --modality audio --adapter {run} --device cpu"
    planned = json.loads(cached(f"{command} --dry-run --json").stdout)
    assert planned["n_to_do"] == N_CLIPS
    shown = cached(f"{command} --json")
    assert json.loads(shown.stdout)["n_ok"] == N_CLIPS
    assert "layers 4-6, fused" in shown.stderr
    assert f"{N_CLIPS} stored: 0 to do" in cached(command).stderr
    features = Store.open(cached.folder / "store").features("audio", recipe="adapter")
    assert features.layers == (4, 5, 6, "fused")
    assert len(features.clip_ids) == N_CLIPS
    said = features.spec.preprocessing["adapter"]
    assert said["digest"] == load_adapter(cached.folder / run).digest
    assert said["site"] == site


def test_an_adapter_is_for_audio(cached):
    shown = cached("extract --modality visual --adapter runs/none", code=2)
    assert "--adapter: expected modality audio; got visual" in shown.stderr
    shown = cached("extract --modality audio --adapter runs/none", code=2)
    assert "mer-store train adapter" in shown.stderr


def test_the_base_model_must_be_named(cached):
    shown = cached(f"train adapter --device cpu {settings(model='')}", code=2)
    assert "setting model: the cache was made by hubert" in shown.stderr
