"""The transformer blocks of HuBERT, wav2vec 2.0 and WavLM, run one after the other from any layer.

Layer 0 is the input of the first block, layer i the output of block i. Blocks have no memory of what came
before a layer's states, so running them from stored states of layer a gives the full model's layers above a.
This module knows models only: no media, no clips, no store.

Shape letters: B sequences in a batch, T frames of the longest, D width.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def frame_mask(n_frames: Tensor, longest: int) -> Tensor:
    """Return which frames are real, bool [B, T], for sequences of `n_frames` [B] padded to `longest`."""
    return torch.arange(longest, device=n_frames.device) < n_frames[:, None]


def pad_frames(clips: Sequence[NDArray[np.float32]]) -> tuple[Tensor, Tensor | None]:
    """Return frames [B, T, D] of clips [T, D], filled up with zeros, and which are real, None for all."""
    lengths = [len(clip) for clip in clips]
    frames = np.zeros((len(clips), max(lengths), clips[0].shape[1]), np.float32)
    for row, clip in zip(frames, clips, strict=True):
        row[: len(clip)] = clip
    real = None
    if min(lengths) < max(lengths):
        real = frame_mask(torch.tensor(lengths), max(lengths))
    return torch.from_numpy(frames), real


def first_states(encoder: nn.Module, projected: Tensor, real: Tensor | None) -> Tensor:
    """Return layer 0 from projected acoustic features.

    Parameters
    ----------
    encoder
        The ``encoder`` of a transformers model.
    projected
        [B, T, D], as its feature projection gives them.
    real
        Which frames are real, bool [B, T], or None where nothing is padded.
    """
    modules: Any = encoder
    if real is not None:
        projected = projected.masked_fill(~real[..., None], 0)
    states = projected + modules.pos_conv_embed(projected)
    if not modules.config.do_stable_layer_norm:
        states = modules.layer_norm(states)
    return states  # type: ignore[no-any-return]


def run_blocks(
    blocks: Iterable[nn.Module],
    config: Any,
    states: Tensor,
    real: Tensor | None,
    position_bias: Tensor | None = None,
) -> Iterator[Tensor]:
    """Run blocks one after the other and yield each one's output [B, T, D]; padded frames hold anything.

    Parameters
    ----------
    blocks
        Some neighbouring items of ``encoder.layers``.
    config
        The model's config.
    states
        Input of the first of them [B, T, D].
    real
        Which frames are real, bool [B, T], or None where nothing is padded.
    position_bias
        Only WavLM: what `wavlm_position_bias` gives. Needed unless `blocks` begins with the model's first.
    """
    attention = attention_mask(config, states, real)
    for block in blocks:
        if config.model_type == "wavlm":
            with warnings.catch_warnings():
                # transformers gives torch a bool and a float mask together, which torch says is deprecated
                warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
                states, position_bias = block(
                    states, attention_mask=attention, position_bias=position_bias
                )
        else:
            states = block(states, attention_mask=attention)
        yield states


def attention_mask(config: Any, states: Tensor, real: Tensor | None) -> Tensor | None:
    """Return the mask that a block of this model takes, made once for all blocks."""
    from transformers.masking_utils import create_bidirectional_mask

    if real is None or config.model_type == "wavlm":
        return real
    mask: Tensor | None = create_bidirectional_mask(
        config=config, inputs_embeds=states, attention_mask=real
    )
    return mask


def wavlm_position_bias(encoder: nn.Module, n_sequences: int, longest: int) -> Tensor:
    """Return the bias [B * heads, T, T] that WavLM's first block makes and all others share."""
    modules: Any = encoder
    bias: Tensor = modules.layers[0].attention.compute_bias(longest, longest)
    return bias.repeat(n_sequences, 1, 1)


def final_layer(encoder: nn.Module, states: Tensor) -> Tensor:
    """Return the model's last layer from the output of its last block.

    Models with a stable layer norm normalise it, and it alone: that is what published features hold.
    """
    modules: Any = encoder
    if not modules.config.do_stable_layer_norm:
        return states
    normed: Tensor = modules.layer_norm(states)
    return normed
