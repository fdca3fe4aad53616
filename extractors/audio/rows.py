"""Rows of features from a model's states: layers summed, frames taken out of their padding, means.

Shape letters: B waveforms in a batch, T frames, L layers, D width.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from extractors.audio.model import HiddenStates
from extractors.contract import Floats, States, Want
from mer_store.layers import Layer


@dataclass(slots=True)
class Rows:
    """What the model gave for one waveform: a clip, or a chunk of one."""

    n_frames: int
    sums: dict[Layer, Floats] = field(default_factory=dict)
    """Sum over the frames, [D] per layer."""
    frames: dict[Layer, Floats] = field(default_factory=dict)
    """[T, D] per layer."""


def compute_rows(
    model: HiddenStates,
    waveforms: Sequence[Floats],
    parts: Mapping[Layer, tuple[int, ...]],
    want: Want,
) -> list[Rows]:
    """Run the model over a batch once, and keep of each layer only what is wanted of it.

    Parameters
    ----------
    waveforms
        One [N] each.
    parts
        Per layer that may be wanted, the model's layers that are summed to make it.
    """
    wanted = {layer: parts[layer] for layer in (*want.utterance, *want.frame)}
    states = model(waveforms, sorted({part for layers in wanted.values() for part in layers}))
    rows: list[Rows] = []
    sums: dict[Layer, Tensor] = {}
    for layer, values, real in sum_parts(states, wanted):
        rows = rows or [Rows(n) for n in count_frames(values, real)]
        if layer in want.utterance:
            sums[layer] = (values if real is None else values.masked_fill(~real[..., None], 0)).sum(
                1
            )
        if layer in want.frame:
            for row, frames in zip(rows, split_frames(values, real, rows), strict=True):
                row.frames[layer] = frames
    if sums:  # all layers of all waveforms in one copy from the device, [L, B, D]
        for layer, of_layer in zip(
            sums, torch.stack(list(sums.values())).cpu().numpy(), strict=True
        ):
            for row, total in zip(rows, of_layer, strict=True):
                row.sums[layer] = total
    return rows


def sum_parts(
    states: Iterator[tuple[int, Tensor, Tensor | None]], wanted: Mapping[Layer, tuple[int, ...]]
) -> Iterator[tuple[Layer, Tensor, Tensor | None]]:
    """Yield each wanted layer in float32 [B, T, D] as soon as its last part is there."""
    totals: dict[Layer, Tensor] = {}
    for part, values, real in states:
        for layer, layers in wanted.items():
            if part in layers:
                totals[layer] = totals[layer] + values if layer in totals else values.float()
            if part == layers[-1]:
                yield layer, totals.pop(layer), real


def count_frames(values: Tensor, real: Tensor | None) -> list[int]:
    """Return the number of real frames of each waveform."""
    n_waveforms, longest = values.shape[:2]
    counts: list[int] = [longest] * n_waveforms if real is None else real.sum(1).tolist()
    return counts


def split_frames(values: Tensor, real: Tensor | None, rows: Sequence[Rows]) -> list[Floats]:
    """Return the real frames [T, D] of each waveform, in one copy from the device."""
    flat = (values.flatten(0, 1) if real is None else values[real]).cpu().numpy()
    ends = np.cumsum([row.n_frames for row in rows])[:-1]
    return np.split(flat, ends)


def join_rows(pieces: Sequence[Rows], want: Want) -> States:
    """Put a clip's chunks together: frames one after the other, one mean over all of them."""
    n_frames = sum(piece.n_frames for piece in pieces)
    return States(
        utterance={
            layer: np.sum([piece.sums[layer] for piece in pieces], axis=0) / np.float32(n_frames)
            for layer in want.utterance
        },
        frame={
            layer: np.concatenate([piece.frames[layer] for piece in pieces])
            if len(pieces) > 1
            else pieces[0].frames[layer]
            for layer in want.frame
        },
    )


def split_batch(
    pooled: Mapping[Layer, Tensor],
    frames: Mapping[Layer, Tensor],
    lengths: Sequence[int],
    want: Want,
) -> list[States]:
    """Take each clip's rows [D] and frames [T, D] out of a batch."""
    utterance = {layer: pooled[layer].cpu().numpy() for layer in want.utterance}
    frame = {layer: values.cpu().numpy() for layer, values in frames.items()}
    return [
        States(
            utterance={layer: rows[number] for layer, rows in utterance.items()},
            frame={layer: rows[number, :length] for layer, rows in frame.items()},
        )
        for number, length in enumerate(lengths)
    ]
