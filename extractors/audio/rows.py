"""Rows of features from a model's states: layers summed, frames taken out of their padding, means.

Shape letters: B waveforms in a batch, T frames, L layers, D width.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from extractors.audio.model import HiddenStates
from extractors.contract import ClipProblem, Floats, States, Want
from extractors.models.copies import HostCopies
from extractors.models.padding import Padding, real_frames, sum_frames
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
    copies, lengths = HostCopies(), tuple[int, ...]()
    sums: dict[Layer, Tensor] = {}
    frames: dict[Layer, Tensor] = {}
    for layer, values, padding in sum_parts(states, wanted):
        lengths = padding.lengths
        if layer in want.utterance:
            sums[layer] = sum_frames(values, padding)
        if layer in want.frame:
            frames[layer] = copies.take(real_frames(values, padding))
    on_host = copies.take(torch.stack(list(sums.values()))) if sums else torch.empty(0)
    copies.wait()
    rows = [Rows(length) for length in lengths]
    for layer, of_layer in zip(sums, on_host.numpy(), strict=True):
        for row, total in zip(rows, of_layer, strict=True):
            row.sums[layer] = total
    for layer, flat in frames.items():
        pieces = np.split(flat.numpy(), np.cumsum(lengths)[:-1])
        for row, piece in zip(rows, pieces, strict=True):
            row.frames[layer] = piece
    return rows


def sum_parts(
    states: Iterator[tuple[int, Tensor, Padding]], wanted: Mapping[Layer, tuple[int, ...]]
) -> Iterator[tuple[Layer, Tensor, Padding]]:
    """Yield each wanted layer in float32 [B, T, D] as soon as its last part is there."""
    totals: dict[Layer, Tensor] = {}
    for part, values, padding in states:
        for layer, layers in wanted.items():
            if part in layers:
                totals[layer] = totals[layer] + values if layer in totals else values.float()
            if part == layers[-1]:
                yield layer, totals.pop(layer), padding


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
) -> list[States | ClipProblem]:
    """Take each clip's rows [D] and frames [T, D] out of a batch."""
    copies = HostCopies()
    on_host = {layer: copies.take(pooled[layer]) for layer in want.utterance}
    frames = {layer: copies.take(values) for layer, values in frames.items()}
    copies.wait()
    utterance = {layer: values.numpy() for layer, values in on_host.items()}
    frame = {layer: values.numpy() for layer, values in frames.items()}
    return [
        States(
            utterance={layer: rows[number] for layer, rows in utterance.items()},
            frame={layer: rows[number, :length] for layer, rows in frame.items()},
        )
        for number, length in enumerate(lengths)
    ]
