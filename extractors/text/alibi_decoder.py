"""Baichuan-13B's decoder: causal, RMSNorm, SwiGLU, positions as linear biases (ALiBi).

Written from the architecture's published description (Press et al. 2022 for ALiBi). transformers
has no class for it, and the checkpoint's own remote code does not run on transformers 5. Attributes
are named as the checkpoint names its tensors, so that loading needs no table of names.

Shape letters: B clips, T tokens, D width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class DecoderShape:
    """All that fixes the decoder's tensors."""

    n_vocabulary: int
    width: int
    mlp_width: int
    n_layers: int
    n_heads: int
    norm_epsilon: float

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "DecoderShape":
        """Read a Baichuan ``config.json``."""
        return cls(
            n_vocabulary=config["vocab_size"],
            width=config["hidden_size"],
            mlp_width=config["intermediate_size"],
            n_layers=config["num_hidden_layers"],
            n_heads=config["num_attention_heads"],
            norm_epsilon=config.get("rms_norm_eps", 1e-6),
        )


def alibi_slopes(n_heads: int) -> Tensor:
    """Return the slope of each head, float32 [heads].

    For a power of two n: the geometric series that starts at and has the ratio ``2**(-8/n)``.
    Otherwise that of the next lower power of two, then every other slope of twice that many heads.
    """
    n_even = 1 << (n_heads.bit_length() - 1)
    exponents = [-8 * (head + 1) / n_even for head in range(n_even)]
    exponents += [-4 * (2 * head + 1) / n_even for head in range(n_heads - n_even)]
    return torch.tensor([2.0**exponent for exponent in exponents])


def alibi_bias(slopes: Tensor, n_tokens: int, attention_mask: Tensor | None) -> Tensor:
    """Return what is added to the attention scores: slope · (key - query), -inf where hidden.

    Hidden are future and padded keys.     Relative distances are small where the weights are large,
    so half precision keeps their digits; an absolute ``slope · key`` does not. Every query may see
    itself, so that no row is all -inf.

    Parameters
    ----------
    slopes
        Float32 [heads].
    n_tokens
        T.
    attention_mask
        [B, T], 1 at real tokens; None where padding stands only to the right of them (the causal
        mask hides it).

    Returns
    -------
    Tensor
        Float32 [B or 1, heads, T, T], indexed query, key.
    """
    position = torch.arange(n_tokens, device=slopes.device)
    distance = position[None, :] - position[:, None]
    hidden = (distance > 0)[None, None]
    if attention_mask is not None:
        hidden = hidden | ((attention_mask == 0)[:, None, None, :] & (distance != 0))
    return (slopes[:, None, None] * distance)[None].masked_fill(hidden, float("-inf"))


class RmsNorm(nn.Module):
    """x / rms(x) · weight; the mean square in float32 whatever x is."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [..., D]."""
        exact = x.float()
        scale = torch.rsqrt(exact.square().mean(-1, keepdim=True) + self.epsilon)
        return self.weight * (exact * scale).to(x.dtype)


class Attention(nn.Module):
    """Self-attention with q, k and v stacked in one matrix."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.n_heads = shape.n_heads
        self.W_pack = nn.Linear(shape.width, 3 * shape.width, bias=False)
        self.o_proj = nn.Linear(shape.width, shape.width, bias=False)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Mix x [B, T, D] over its tokens; `bias` is of x's dtype."""
        B, T, D = x.shape
        q, k, v = self.W_pack(x).view(B, T, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return cast("Tensor", self.o_proj(mixed.transpose(1, 2).reshape(B, T, D)))


class GatedMlp(nn.Module):
    """SwiGLU: down(silu(gate(x)) · up(x))."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.width, shape.mlp_width, bias=False)
        self.up_proj = nn.Linear(shape.width, shape.mlp_width, bias=False)
        self.down_proj = nn.Linear(shape.mlp_width, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, T, D] token by token."""
        return cast("Tensor", self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x)))


class Block(nn.Module):
    """Attention and MLP, each on a normalised input and added to it."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = GatedMlp(shape)
        self.input_layernorm = RmsNorm(shape.width, shape.norm_epsilon)
        self.post_attention_layernorm = RmsNorm(shape.width, shape.norm_epsilon)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Return the block's raw output [B, T, D]."""
        x = x + self.self_attn(self.input_layernorm(x), bias)
        return cast("Tensor", x + self.mlp(self.post_attention_layernorm(x)))


class AlibiDecoder(nn.Module):
    """The decoder without its language-model head."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.n_vocabulary, shape.width)
        self.layers = nn.ModuleList(Block(shape) for _ in range(shape.n_layers))
        self.norm = RmsNorm(shape.width, shape.norm_epsilon)

    def forward(
        self, token_ids: Tensor, layers: Sequence[int], attention_mask: Tensor | None = None
    ) -> dict[int, Tensor]:
        """Return the wanted hidden states.

        Parameters
        ----------
        token_ids
            [B, T].
        layers
            0 is the embedding, i the raw output of block i, the last one that of the last block
            after the final norm. Blocks above the highest are not run.
        attention_mask
            [B, T], 1 at real tokens; None where there is no padding, or only to the right of the
            tokens.

        Returns
        -------
        dict
            [B, T, D] per layer, in the dtype of the weights. Rows of padding have no meaning.
        """
        x = self.embed_tokens(token_ids)
        slopes = alibi_slopes(self.shape.n_heads).to(x.device)
        bias = alibi_bias(slopes, token_ids.shape[1], attention_mask).to(x.dtype)
        wanted = set(layers)
        kept = {0: x} if 0 in wanted else {}
        for number, block in enumerate(self.layers[: max(wanted)], start=1):
            x = block(x, bias)
            if number == self.shape.n_layers:
                x = self.norm(x)
            if number in wanted:
                kept[number] = x
        return kept
