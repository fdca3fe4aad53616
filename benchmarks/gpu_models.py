"""Checkpoints with random weights, written as the published ones lie in their folders: full size, or tiny."""

import io
import json
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from safetensors.torch import save_file
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    HubertConfig,
    HubertModel,
    PreTrainedConfig,
    PreTrainedModel,
)

LARGE_KIND = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
HUBERT = {
    "full": {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096},
    "tiny": {
        "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64, "conv_dim": (16,) * 7,
        "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
    },
}  # fmt: skip
CLIP = {
    "full": {
        "hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096, "patch_size": 14,
        "projection_dim": 768,
    },
    "tiny": {
        "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64, "patch_size": 32,
        "projection_dim": 24,
    },
}  # fmt: skip
#: Sizes of the two Baichuan2; tiny ones have as many heads, since that tells them apart.
BAICHUAN = {
    ("7b", "full"): {"hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32},
    ("13b", "full"): {"hidden_size": 5120, "intermediate_size": 13696, "num_attention_heads": 40},
    ("7b", "tiny"): {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 32},
    ("13b", "tiny"): {"hidden_size": 80, "intermediate_size": 112, "num_attention_heads": 40},
}
N_BLOCKS = {"7b": 32, "13b": 40}
SENTENCES = (
    "我今天真的很开心我们一起出去走走吧", "你好吗我很好谢谢你的关心", "他为什么生气了我一点也不明白",
    "不要担心明天一切都会好起来的", "天哪这件事太让人惊讶了", "我没有听懂你刚才在说什么",
    "这件事让我很难过我不想再提", "好吧那就这样我们下次再说", "你怎么现在才来大家都等了你很久",
)  # fmt: skip


def write_hubert(folder: Path, size: str, device: str = "cpu") -> Path:
    """Write HuBERT-large, or its topology at width 32."""
    config = HubertConfig(num_hidden_layers=24, **LARGE_KIND, **HUBERT[size])
    settings = {"do_normalize": True, "sampling_rate": 16_000, "feature_size": 1}
    return _write(folder, HubertModel, config, device, settings)


def write_clip(folder: Path, size: str, device: str = "cpu") -> Path:
    """Write CLIP ViT-L/14's vision tower, or its topology at width 32 in patches of 32."""
    config = CLIPVisionConfig(num_hidden_layers=24, image_size=224, **CLIP[size])
    settings = {"size": {"shortest_edge": 224}, "crop_size": 224}
    return _write(folder, CLIPVisionModelWithProjection, config, device, settings)


def _write(
    folder: Path, model_class: type[PreTrainedModel], config: PreTrainedConfig, device: str,
    preprocessor: dict[str, Any],
) -> Path:  # fmt: skip
    if not (folder / "preprocessor_config.json").exists():
        torch.manual_seed(0)
        with torch.device(device):
            model = model_class(config)
        model.to("cpu").save_pretrained(folder)
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


def write_baichuan(
    folder: Path, kind: str, size: str, n_blocks: int | None = None, device: str = "cpu"
) -> Path:
    """Write Baichuan2-7B or -13B in bfloat16, a shard a block; of `n_blocks` where all would not fit."""
    if (folder / "config.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder / "tokenizer.model")
    config = {
        "model_type": "baichuan", "rms_norm_eps": 1e-6, "model_max_length": 4096,
        "vocab_size": 125_696 if size == "full" else 512,
        "num_hidden_layers": n_blocks or (N_BLOCKS[kind] if size == "full" else 4),
        **BAICHUAN[kind, size], **({"max_position_embeddings": 4096} if kind == "7b" else {}),
    }  # fmt: skip
    torch.manual_seed(0)
    shards = [_ends(config, device)]
    weight_map = dict.fromkeys(shards[0], "model-0.safetensors")
    save_file(shards[0], folder / "model-0.safetensors")
    for number in range(config["num_hidden_layers"]):
        shard = _block(config, number, device)
        name = f"model-{number + 1}.safetensors"
        save_file(shard, folder / name)
        weight_map.update(dict.fromkeys(shard, name))
    index = json.dumps({"metadata": {}, "weight_map": weight_map})
    (folder / "model.safetensors.index.json").write_text(index)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _ends(config: dict[str, Any], device: str) -> dict[str, torch.Tensor]:
    width = config["hidden_size"]
    return {
        "model.embed_tokens.weight": _matrix(config["vocab_size"], width, device),
        "model.norm.weight": torch.ones(width, dtype=torch.bfloat16),
    }


def _block(config: dict[str, Any], number: int, device: str) -> dict[str, torch.Tensor]:
    width, mlp = config["hidden_size"], config["intermediate_size"]
    shapes = {
        "self_attn.W_pack": (3 * width, width), "self_attn.o_proj": (width, width),
        "mlp.gate_proj": (mlp, width), "mlp.up_proj": (mlp, width), "mlp.down_proj": (width, mlp),
    }  # fmt: skip
    tensors = {name: _matrix(*shape, device) for name, shape in shapes.items()}
    for name in ("input_layernorm", "post_attention_layernorm"):
        tensors[name] = torch.ones(width, dtype=torch.bfloat16)
    return {f"model.layers.{number}.{name}.weight": tensor for name, tensor in tensors.items()}


def _matrix(n_rows: int, n_columns: int, device: str) -> torch.Tensor:
    weights = torch.randn(n_rows, n_columns, device=device, dtype=torch.bfloat16)
    return (weights / n_columns**0.5).cpu()


def write_tokenizer(path: Path) -> None:
    """Train a tokenizer of Baichuan2's kind on a few sentences."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES), model_writer=model, model_type="bpe", vocab_size=400,
        character_coverage=1.0, byte_fallback=True, minloglevel=2,
    )  # fmt: skip
    path.write_bytes(model.getvalue())
