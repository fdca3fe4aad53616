"""Stacked models: many small models of one shape trained side by side, as one set of tensors.

Shape letters: K lanes (a fold of a repeat, each with clips of its own), Q variants in a lane, S = K * Q
models with s = k * Q + q; B clips in a batch, L layers, D feature width, C classes. A model in a stack
computes what it would compute alone: models share the lane's clips and its dropout noise, nothing else.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.train.lanes import Lane
from pipelines.train.roster import Rows
from pipelines.train.streams import stream

Streams = Callable[[str], Sequence[torch.Generator]]
"""From what is initialised to one generator a model."""
STD_FLOOR = 1e-5


def lane_streams(lanes: Sequence[Lane], n_variants: int = 1) -> Streams:
    """Return the generators that initialise S models: variants of a lane start from the same numbers."""
    return lambda what: [
        stream(lane.seed, "init", what, lane.repeat, lane.fold)
        for lane in lanes
        for _ in range(n_variants)
    ]


class StackedLinear(nn.Module):
    """S linear layers, initialised as `torch.nn.Linear`, each by its own generator."""

    def __init__(self, n_in: int, n_out: int, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        bound = 1 / math.sqrt(n_in)
        weights, biases = [], []
        for generator in generators:
            weights.append(torch.empty(n_in, n_out).uniform_(-bound, bound, generator=generator))
            biases.append(torch.empty(1, n_out).uniform_(-bound, bound, generator=generator))
        self.weight = nn.Parameter(torch.stack(weights))
        """[S, in, out]"""
        self.bias = nn.Parameter(torch.stack(biases))
        """[S, 1, out]"""

    def forward(self, x: Tensor) -> Tensor:
        """[S, B, in] -> [S, B, out]."""
        return torch.baddbmm(self.bias, x, self.weight)


class StackedMLP(nn.Module):
    """`depth` layers of `n_hidden` with ReLU and dropout after each, none on the input."""

    def __init__(
        self, n_in: int, n_hidden: int, depth: int, dropout: Tensor, streams: Streams, name: str
    ) -> None:
        super().__init__()
        widths = [n_in, *[n_hidden] * depth]
        self.layers = nn.ModuleList(
            StackedLinear(before, after, streams(f"{name}.{number}"))
            for number, (before, after) in enumerate(pairwise(widths))
        )
        self.n_out = widths[-1]
        self._dropout = dropout

    def forward(self, x: Tensor, noise: "Noise | None" = None) -> Tensor:
        """[S, B, in] -> [S, B, hidden]; without `noise` nothing is dropped."""
        for layer in self.layers:
            x = F.relu(layer(x))
            if noise is not None:
                x = drop(x, self._dropout, noise(x.shape[1], x.shape[2]))
        return x

    def on_shared(self, x: Tensor, scale: "Standardise") -> Tensor:
        """Return [S, B, hidden] of clips x [B, D] that all models see, nothing dropped.

        The standardisation goes into the first layer's weights, so that one product serves all models:
        ((x - m) c) W + b = x (c W) + (b - (m c) W).
        """
        first = cast("StackedLinear", self.layers[0])
        n_models, _, n_hidden = first.weight.shape
        q = n_models // len(scale.mean)
        c = spread(scale.scale.flatten(1), q)[:, :, None]
        weight = c * first.weight
        bias = first.bias - spread(scale.mean.flatten(1), q)[:, None] @ weight
        shared = x @ weight.transpose(0, 1).flatten(1) + bias.flatten()
        h = F.relu(shared).view(len(x), n_models, n_hidden).transpose(0, 1).contiguous()
        for layer in self.layers[1:]:
            h = F.relu(layer(h))
        return h


class Noise:
    """Uniform numbers for dropout: one stream a lane and epoch, shared by the variants of the lane.

    Numbers are drawn for `batch` rows and cut, so that a lane that is trained alone, or fills its batches
    otherwise, sees the same ones.
    """

    def __init__(
        self, lanes: Sequence[Lane], epoch: int, batch: int, n_variants: int, device: torch.device
    ) -> None:
        self._streams = [
            stream(lane.seed, "dropout", lane.repeat, lane.fold, epoch) for lane in lanes
        ]
        self._batch = batch
        self._n_variants = n_variants
        self._device = device

    def __call__(self, n_rows: int, width: int) -> Tensor:
        """Return [S, B, width] in [0, 1)."""
        drawn = [torch.rand(self._batch, width, generator=s)[:n_rows] for s in self._streams]
        return spread(torch.stack(drawn).to(self._device), self._n_variants)


def drop(x: Tensor, rate: Tensor, noise: Tensor) -> Tensor:
    """Drop elements of x [S, B, D] with the probability `rate` [S], scaling up what stays."""
    rate = rate[:, None, None]
    return x * (noise >= rate) / (1 - rate)


def spread(x: Tensor, n_variants: int) -> Tensor:
    """Repeat what a lane has for each of its variants: [K, ...] -> [S, ...]."""
    return x if n_variants == 1 else x.repeat_interleave(n_variants, dim=0)


def mean_loss(losses: Tensor, weight: Tensor) -> Tensor:
    """Return [S]: the weighted mean of each model's losses [S, B]."""
    return (losses * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1e-12)


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Return [S, B] from logits [S, B, C] and labels [S, B]."""
    return F.cross_entropy(logits.flatten(0, 1), label.flatten(), reduction="none").view(
        label.shape
    )


class Standardise(nn.Module):
    """Shifts and scales each feature to mean 0 and variance 1 over a lane's training clips.

    A feature that is the same in all of them becomes 0: it says nothing, whatever it is in other clips.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale_of(std))

    @classmethod
    def fit(cls, values: Tensor, row: Rows, lanes: Sequence[Lane]) -> "Standardise":
        """Measure [K, L, D] of each lane's clips that have features; `values` is [n, L, D]."""
        moments = [_moments(values, row[lane.train]) for lane in lanes]
        return cls(
            torch.stack([mean for mean, _ in moments]), torch.stack([std for _, std in moments])
        )

    @classmethod
    def nothing(cls, n_lanes: int, shape: Sequence[int]) -> "Standardise":
        """Return one that changes nothing."""
        return cls(torch.zeros(n_lanes, *shape), torch.ones(n_lanes, *shape))

    def forward(self, x: Tensor) -> Tensor:
        """[K, B, L, D] -> the same, in its place."""
        return (x - self.mean[:, None]) * self.scale[:, None]


def scale_of(std: Tensor) -> Tensor:
    """Return what features are multiplied by: 1 / std, 0 for a feature that never varies."""
    return torch.where(std > STD_FLOOR, 1 / std.clamp_min(STD_FLOOR), 0.0)


def _moments(values: Tensor, row: Rows) -> tuple[Tensor, Tensor]:
    own = values[torch.from_numpy(row[row >= 0]).to(values.device)].float()
    if len(own) < 2:
        shape = values.shape[1:]
        return torch.zeros(shape, device=values.device), torch.ones(shape, device=values.device)
    return own.mean(dim=0), own.std(dim=0, correction=0)


def gather(values: Tensor, row: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Return features [..., L, D] in float32 of the rows [...], and whether they are there [...].

    Parameters
    ----------
    values
        [n, L, D]
    row
        [...]: positions in `values`; what is -1 has no features and gives zeros.
    """
    rows = torch.from_numpy(row).to(values.device)
    there = rows >= 0
    taken = values[rows.clamp_min(0)].float()
    return taken * there[..., None, None], there
