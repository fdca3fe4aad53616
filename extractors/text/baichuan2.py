"""Baichuan and Baichuan2 from their published weights, without the checkpoint's own code.

7B is Llama with q, k and v stacked in one matrix; 13B is `AlibiDecoder`. Weights go tensor by
tensor from the shard to the device in the compute dtype, so that no second copy of the model is
ever held; lm_head is never loaded.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from extractors.text.alibi_decoder import AlibiDecoder, DecoderShape
from extractors.text.hidden_states import LanguageModel, TransformersModel
from mer_store.errors import UsageError

NamedTensors = Iterable[tuple[str, Tensor]]

#: Parts of names in a checkpoint that no hidden state needs: the head, and tables that are
#: computed.
_NOT_NEEDED = ("lm_head.", ".rotary_emb.inv_freq", "future_mask", "alibi_mask")
_CONFIG_KEYS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
)


def is_baichuan(config: Mapping[str, Any]) -> bool:
    """Tell whether a ``config.json`` is of this family."""
    return config.get("model_type") == "baichuan"


def uses_alibi(config: Mapping[str, Any]) -> bool:
    """Tell 13B (True) from 7B: only the model with rotary positions states how many it has."""
    return "max_position_embeddings" not in config


def check_config(config: Mapping[str, Any], where: str) -> None:
    """Refuse a config of which the model cannot be built, or only another one than was trained.

    Raises
    ------
    UsageError
        A key is missing, or the width is that of one published size and the positions of the other.
    """
    if missing := [key for key in _CONFIG_KEYS if key not in config]:
        raise UsageError(f"{where}: config.json: expected {', '.join(missing)}; got none")
    alibi, width = uses_alibi(config), config["hidden_size"]
    if {4096: False, 5120: True}.get(width, alibi) != alibi:
        raise UsageError(
            f"{where}: config.json: hidden_size {width} {'without' if alibi else 'with'} "
            "max_position_embeddings: neither 7B (4096, with) nor 13B (5120, without); "
            "take the config.json that was published with the weights"
        )


def max_tokens(config: Mapping[str, Any]) -> int:
    """Return how long a text the model was made for."""
    return int(config.get("max_position_embeddings") or config.get("model_max_length", 4096))


def load_baichuan(
    config: Mapping[str, Any],
    tensors: NamedTensors,
    device: torch.device,
    dtype: torch.dtype,
    where: str,
) -> LanguageModel:
    """Build the model and fill it.

    Parameters
    ----------
    config
        The checkpoint's ``config.json``.
    tensors
        All tensors of the checkpoint, each once, under the names it gives them.
    device, dtype
        Where and in what the weights end up.
    where
        Names the checkpoint in errors.

    Raises
    ------
    UsageError
        A tensor is missing, unknown or of another shape.
    """
    tensors = _without_prefix(tensors)
    if uses_alibi(config):
        with torch.device("meta"):
            decoder = AlibiDecoder(DecoderShape.from_config(config))
        fill(decoder, tensors, device, dtype, where)
        return _AlibiModel(decoder.eval())
    llama = _empty_llama(config, device)
    fill(llama, _with_split_attention(tensors), device, dtype, where)
    return TransformersModel(llama, config["num_hidden_layers"])


class _AlibiModel:
    def __init__(self, decoder: AlibiDecoder) -> None:
        self.decoder = decoder

    def __call__(
        self,
        token_ids: Tensor,
        n_tokens: Tensor,  # noqa: ARG002 - padding to the right is in the future of all tokens
        layers: Sequence[int],
    ) -> dict[int, Tensor]:
        states: dict[int, Tensor] = self.decoder(token_ids, layers)
        return states


def fill(
    model: nn.Module, tensors: NamedTensors, device: torch.device, dtype: torch.dtype, where: str
) -> None:
    """Replace every parameter of a model on the meta device, strictly, one tensor at a time."""
    missing = dict(model.named_parameters())
    for name, tensor in tensors:
        expected = missing.pop(name, None)
        if expected is None:
            raise UsageError(
                f"{where}: tensor {name!r} is unknown to this architecture or there twice"
            )
        if expected.shape != tensor.shape:
            raise UsageError(
                f"{where}: tensor {name!r}: "
                f"expected {list(expected.shape)}, got {list(tensor.shape)}"
            )
        path, _, attribute = name.rpartition(".")
        filled = nn.Parameter(tensor.to(device, dtype), requires_grad=False)
        setattr(model.get_submodule(path), attribute, filled)
    if missing:
        some = ", ".join(list(missing)[:3])
        raise UsageError(
            f"{where}: {len(missing)} tensors are missing, such as {some}; "
            "is a shard missing? download it again"
        )


def _without_prefix(tensors: NamedTensors) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors:
        if not any(part in name for part in _NOT_NEEDED):
            yield name.removeprefix("model."), tensor


def _with_split_attention(tensors: NamedTensors) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors:
        head, packed, tail = name.partition("W_pack")
        if not packed:
            yield name, tensor
            continue
        for letter, rows in zip("qkv", tensor.chunk(3), strict=True):
            yield f"{head}{letter}_proj{tail}", rows


def _empty_llama(config: Mapping[str, Any], device: torch.device) -> nn.Module:
    """Build the 7B on the meta device, but for its table of rotary frequencies."""
    from transformers import LlamaConfig, LlamaModel
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    shape = LlamaConfig(
        vocab_size=config["vocab_size"],
        hidden_size=config["hidden_size"],
        intermediate_size=config["intermediate_size"],
        num_hidden_layers=config["num_hidden_layers"],
        num_attention_heads=config["num_attention_heads"],
        max_position_embeddings=config["max_position_embeddings"],
        rms_norm_eps=config.get("rms_norm_eps", 1e-6),
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        use_cache=False,
    )
    shape._attn_implementation = "sdpa"
    with torch.device("meta"):
        llama: nn.Module = LlamaModel(shape)
    llama.rotary_emb = LlamaRotaryEmbedding(shape).to(device)
    return llama
