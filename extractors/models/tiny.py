"""Tiny models with seeded random weights: the whole pipeline in the real models' shapes, no file.

Their features mean nothing; a spec made with them says ``trained: false``.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from numpy.typing import NDArray

TINY = "tiny"
_SEED = 20240713


@dataclass(frozen=True)
class TinyModel:
    """A model in eval mode on the CPU in float32, and what a spec says of it."""

    model: Any
    """A transformers model. Freshly built: whoever asks may change it."""
    weights: str
    """Digest of its tensors, ``sha256:`` and 64 hex digits."""
    name: str = TINY


def tiny_hubert() -> TinyModel:
    """HuBERT-large's topology (25 states, layer norm, 16 kHz, 20 ms frames) at width 32."""
    from transformers import HubertConfig, HubertModel

    config = HubertConfig(
        hidden_size=32,
        num_hidden_layers=24,
        num_attention_heads=4,
        intermediate_size=64,
        conv_dim=(16,) * 7,
        conv_bias=True,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        feat_proj_layer_norm=True,
        apply_spec_augment=False,
    )
    return _build(HubertModel, config)


def tiny_clip() -> TinyModel:
    """CLIP-L's topology (24 blocks, 224 x 224 images) at width 32 in patches of 32, projected to 64."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        projection_dim=64,
        num_hidden_layers=24,
        num_attention_heads=4,
        image_size=224,
        patch_size=32,
    )
    return _build(CLIPVisionModelWithProjection, config)


def tiny_text() -> TinyModel:
    """Llama's topology: 8 blocks of width 64; tokens are the bytes of the UTF-8 text, 0-255."""
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=8,
        num_attention_heads=4,
        max_position_embeddings=4096,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )
    return _build(LlamaModel, config)


def tensors_digest(model: nn.Module) -> str:
    """Return one digest over names, shapes and float32 values of all parameters, sorted by name."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        digest.update(parameter.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"


def _build(model_class: Callable[[Any], nn.Module], config: Any) -> TinyModel:
    with torch.random.fork_rng(devices=[]):  # whoever seeded torch keeps their numbers
        model = model_class(config).eval().requires_grad_(requires_grad=False)
    # NumPy's stream is the same on every machine, torch's is not: workers must agree on the digest.
    stream = np.random.default_rng(_SEED)
    for name, parameter in sorted(model.named_parameters()):
        values = _values(name, tuple(parameter.shape), stream)
        parameter.copy_(torch.from_numpy(values))
    return TinyModel(model, tensors_digest(model))


def _values(
    name: str, shape: tuple[int, ...], stream: np.random.Generator
) -> "NDArray[np.float32]":
    """Draw weights that keep activations near unit size through 24 blocks."""
    uniform = stream.uniform(-1.0, 1.0, shape)
    scale: float = (3.0 / int(np.prod(shape[1:]))) ** 0.5
    if name.endswith("original0"):  # the length of weight-normed filters
        return (0.5 + 0.1 * uniform).astype(np.float32)
    if len(shape) == 1:  # biases, and gains of norms
        return (("norm" in name and name.endswith("weight")) + 0.1 * uniform).astype(np.float32)
    return (uniform * scale).astype(np.float32)
