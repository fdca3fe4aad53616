"""The probe: a classifier on pooled features of one modality, S of them side by side.

Letters as in `pipelines.train.stacked`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mer_store.layers import Layer
from pipelines.train.roster import Rows
from pipelines.train.stacked import (
    Noise,
    StackedLinear,
    StackedMLP,
    Standardise,
    Streams,
    gather,
    spread,
)

CHUNK_NUMBERS = 2**25
"""Features that are standardised at a time while predicting, over all lanes: 128 MiB."""


@dataclass(frozen=True)
class ProbeShape:
    """What the probes of a stack have in common."""

    n_layers: int
    width: int
    n_classes: int
    hidden: int
    """0 is a linear classifier."""
    depth: int
    each: bool
    """True where each layer has a probe of its own: then the variants of a lane are its layers."""

    @property
    def n_variants(self) -> int:
        """Q."""
        return self.n_layers if self.each else 1


class LayerSum(nn.Module):
    """f = sum w_i f_i with learnable w, plain numbers: at the start 1 for one layer, 0 for the others.

    Zhao et al. (MRAC '24) fuse the layers of HuBERT so, starting at layer 18.
    """

    def __init__(self, n_models: int, n_layers: int, start: int) -> None:
        super().__init__()
        weight = torch.zeros(n_models, n_layers)
        weight[:, start] = 1.0
        self.weight = nn.Parameter(weight)
        """[S, L]"""

    def forward(self, x: Tensor) -> Tensor:
        """[S, B, L, D] -> [S, B, D]."""
        return torch.einsum("sbld,sl->sbd", x, self.weight)

    def describe(self, layers: Sequence[Layer]) -> list[dict[str, Any]]:
        """Return the mean and the spread of each layer's weight over the models, and its mean size.

        The sign of all weights of a model means nothing, as the classifier above can turn it round: sizes can
        be compared.
        """
        return [
            {
                "layer": layer,
                "mean": own.mean().item(),
                "std": own.std(correction=0).item(),
                "size": own.abs().mean().item(),
            }
            for layer, own in zip(layers, self.weight.detach().cpu().double().T, strict=True)
        ]


class Probes(nn.Module):
    """S probes: standardised features, layers apart or summed, an MLP, a linear layer to the classes.

    Each layer is standardised before the sum, so that equal weights mean an equal share in it: of features as
    they are, the layer with the largest numbers would fill the sum whatever its weight. One layer alone has
    no weight.
    """

    def __init__(
        self,
        shape: ProbeShape,
        standardise: Standardise,
        dropout: float,
        start: int,
        streams: Streams,
    ) -> None:
        super().__init__()
        n_models = len(standardise.mean) * shape.n_variants
        self.shape = shape
        self.standardise = standardise
        summed = shape.n_layers > 1 and not shape.each
        self.layer_sum = LayerSum(n_models, shape.n_layers, start) if summed else None
        rate = torch.full((n_models,), dropout)
        self.mlp = StackedMLP(
            shape.width, shape.hidden, shape.depth if shape.hidden else 0, rate, streams, "mlp"
        )
        self.classes = StackedLinear(self.mlp.n_out, shape.n_classes, streams("classes"))

    def forward(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """[K, B, L, D] -> logits [S, B, C]."""
        x = self.standardise(x)
        if self.layer_sum is None:
            x = x.transpose(1, 2).flatten(0, 1)  # a layer is a variant: [K, L, B, D] -> [S, B, D]
        else:
            x = self.layer_sum(spread(x, self.shape.n_variants))
        logits: Tensor = self.classes(self.mlp(x, noise))
        return logits

    def groups(self, lr: float, layer_lr: float) -> list[dict[str, object]]:
        """Return parameter groups for an optimiser: layer weights learn at a rate of their own."""
        own = [] if self.layer_sum is None else [self.layer_sum.weight]
        others = [p for name, p in self.named_parameters() if not name.startswith("layer_sum")]
        groups: list[dict[str, object]] = [{"params": others, "lr": lr}]
        if own:
            groups.append({"params": own, "lr": layer_lr, "weight_decay": 0.0})
        return groups

    @torch.no_grad()
    def predict(self, values: Tensor, row: Rows) -> Tensor:
        """Return logits [S, n, C] of the clips at `row` [n] of values [n, L, D], on the CPU."""
        n_lanes, parts = len(self.standardise.mean), []
        chunk = max(1, CHUNK_NUMBERS // self.standardise.mean.numel())
        for start in range(0, len(row), chunk):
            x, _ = gather(values, row[start : start + chunk])
            parts.append(self(x.expand(n_lanes, *x.shape)).cpu())
        return torch.cat(parts, dim=1)
