"""Small folders of seeded random speech models, laid out as the published ones are."""

import json

import torch
import transformers

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
LARGE_KIND = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
BASE_KIND = {"feat_extract_norm": "group", "do_stable_layer_norm": False, "conv_bias": False}


def save_hubert(folder, **changes):
    """HuBERT of the "large" kind; `changes` go over its config, `seed` and `as_bin` are ours."""
    return _save("Hubert", folder, {**LARGE_KIND, **changes})


def save_hubert_base(folder, **changes):
    """HuBERT of the "base" kind: a group norm over the whole clip, no stable layer norm."""
    return _save("Hubert", folder, {**BASE_KIND, **changes})


def save_wav2vec2(folder, **changes):
    return _save("Wav2Vec2", folder, {**LARGE_KIND, **changes})


def save_wavlm(folder, **changes):
    return _save("WavLM", folder, {**LARGE_KIND, **changes})


def save_wavlm_base(folder, **changes):
    return _save("WavLM", folder, {**BASE_KIND, **changes})


def _save(family, folder, settings):
    as_bin, seed = settings.pop("as_bin", False), settings.pop("seed", 0)
    do_normalize = settings.pop("do_normalize", True)
    config = getattr(transformers, f"{family}Config")(**{**SMALL, **settings})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, f"{family}Model")(config).eval()
        with torch.no_grad():  # fresh norms are ones and fresh biases zeros, which hides mistakes
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.3 * torch.randn_like(parameter))
                elif parameter.dim() == 2:
                    parameter.mul_(8.0)
    model.save_pretrained(folder)
    settings = {"do_normalize": do_normalize, "sampling_rate": 16000, "feature_size": 1}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    if as_bin:
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder
