"""Attention over the modalities a clip has, S models side by side. Letters as in `pipelines.train.stacked`.

Zhao et al. (MRAC '24): h stacks the outputs of an MLP per modality, alpha = softmax(h^T W + b), z = h alpha,
and a linear layer on z gives the classes. A modality that a clip lacks gets no weight.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from pipelines.train.stacked import (
    Noise,
    StackedLinear,
    StackedMLP,
    Standardise,
    Streams,
    spread,
)


@dataclass(frozen=True)
class FusionShape:
    """What the models of a stack have in common."""

    widths: tuple[int, ...]
    """D of each modality, in order."""
    hidden: int
    depth: int
    n_classes: int
    n_variants: int = 1
    """Q."""


class Attention(nn.Module):
    """alpha = softmax(h^T W + b) over the modalities present; z = h alpha.

    W is [hidden, 1], shared by the modalities; b has one number for each, since one for all would cancel.
    """

    def __init__(self, hidden: int, n_modalities: int, streams: Streams) -> None:
        super().__init__()
        self.weight = StackedLinear(hidden, 1, streams("attention")).weight
        """[S, hidden, 1]"""
        self.bias = nn.Parameter(torch.zeros(len(self.weight), 1, n_modalities))
        """[S, 1, M]"""

    def forward(self, h: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """H [S, B, M, hidden] and present [S, B, M] -> z [S, B, hidden] and alpha [S, B, M]."""
        score = torch.einsum("sbmh,sho->sbm", h, self.weight) + self.bias
        score = score.masked_fill(~present, -torch.inf)
        alpha = torch.softmax(score, dim=-1)
        return torch.einsum("sbmh,sbm->sbh", h, alpha), alpha


class Fusions(nn.Module):
    """S fusion models over the same modalities."""

    def __init__(
        self,
        shape: FusionShape,
        standardise: Sequence[Standardise],
        dropout: Tensor,
        streams: Streams,
    ) -> None:
        super().__init__()
        self.shape = shape
        self.standardise = nn.ModuleList(standardise)
        self.encoders = nn.ModuleList(
            StackedMLP(width, shape.hidden, shape.depth, dropout, streams, f"encoder.{number}")
            for number, width in enumerate(shape.widths)
        )
        self.attention = Attention(shape.hidden, len(shape.widths), streams)
        self.classes = StackedLinear(shape.hidden, shape.n_classes, streams("classes"))

    def forward(
        self, inputs: Sequence[Tensor], present: Tensor, noise: Noise | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return logits [S, B, C] and attention [S, B, M].

        Parameters
        ----------
        inputs
            [K, B, 1, D] per modality; rows of absent clips hold anything finite.
        present
            [K, B, M] bool, at least one modality a clip.
        """
        q = self.shape.n_variants
        encoded = [
            encoder(spread(scale(x)[:, :, 0], q), noise)
            for encoder, scale, x in zip(self.encoders, self.standardise, inputs, strict=True)
        ]
        return self._attend(encoded, spread(present, q))

    def on_shared(self, inputs: Sequence[Tensor], present: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `forward` does for clips that all models see.

        Parameters
        ----------
        inputs
            [B, 1, D] per modality
        present
            [B, M]
        """
        encoded = [
            cast("StackedMLP", encoder).on_shared(x[:, 0], cast("Standardise", scale))
            for encoder, scale, x in zip(self.encoders, self.standardise, inputs, strict=True)
        ]
        return self._attend(encoded, present.expand(len(encoded[0]), *present.shape))

    def _attend(self, encoded: Sequence[Tensor], present: Tensor) -> tuple[Tensor, Tensor]:
        z, alpha = self.attention(torch.stack(list(encoded), dim=2), present)
        return self.classes(z), alpha


def drop_modalities(present: Tensor, noise: Tensor, rate: float) -> Tensor:
    """Drop each modality with the probability `rate`, never the last one a clip has.

    Parameters
    ----------
    present
        [K, B, M] bool
    noise
        [K, B, M] in [0, 1)
    """
    kept = present & (noise >= rate)
    luckiest = torch.zeros_like(present).scatter_(
        -1, noise.masked_fill(~present, -1.0).argmax(dim=-1, keepdim=True), value=True
    )
    return torch.where(kept.any(dim=-1, keepdim=True), kept, luckiest & present)
