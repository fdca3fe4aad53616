"""What is trained around the adapters: the layers' sum, the rebuilding of its masked part, and the classes.

Zhao et al. (MRAC '24): f_fusion = sum w_i f_i over the pooled layers, w learnable, at the start 1 for layer
18 and 0 for the others; f_masked = MLP(f_fusion with a part masked), of two linear layers and a ReLU;
L = L_ce + L_mlm with L_mlm = MSE(f_masked, f_fusion) and a linear layer from f_masked to the classes.

Shape letters: B clips in a batch, T frames, L layers, D width, C classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from extractors.models.adapter import AdaptedBlocks, OutputAdapters, fuse, pool


@dataclass(frozen=True)
class Answer:
    """What the model says of a batch."""

    fused: Tensor
    """f_fusion [B, D]"""
    rebuilt: Tensor
    """f_masked [B, D]"""
    logits: Tensor
    """[B, C]"""


class Head(nn.Module):
    """From pooled layers to classes, by way of a fused feature of which a part is rebuilt."""

    def __init__(
        self, width: int, n_layers: int, n_classes: int, start: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.layer_weights = nn.Parameter(torch.zeros(n_layers))
        self.rebuild = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.classes = nn.Linear(width, n_classes)
        with torch.no_grad():
            self.layer_weights[start] = 1.0
            for layer in (*self.rebuild, self.classes):
                if isinstance(layer, nn.Linear):
                    bound = layer.in_features**-0.5
                    layer.weight.uniform_(-bound, bound, generator=generator)
                    layer.bias.uniform_(-bound, bound, generator=generator)

    def forward(self, pooled: Tensor, masked: Tensor | None = None) -> Answer:
        """Answer for pooled [B, L, D]; `masked` [B, D] says what is hidden from the rebuilding."""
        fused = fuse(self.layer_weights, pooled)
        seen = fused if masked is None else fused.masked_fill(masked, 0.0)
        rebuilt = self.rebuild(seen)
        return Answer(fused, rebuilt, self.classes(rebuilt))


class AdapterModel(nn.Module):
    """Adapters, in blocks or on outputs, and the head."""

    def __init__(self, adapters: AdaptedBlocks | OutputAdapters, head: Head) -> None:
        super().__init__()
        self.body = adapters
        self.head = head

    def pooled(self, x: Tensor, real: Tensor | None) -> Tensor:
        """Return pooled adapted layers [B, L, D] of frames [B, T, D], or of pooled layers [B, L, D]."""
        if isinstance(self.body, OutputAdapters):
            return self.body(x)  # type: ignore[no-any-return]
        return torch.stack([pool(states, real) for states in self.body(x, real).values()], dim=1)

    def forward(self, x: Tensor, real: Tensor | None, masked: Tensor | None = None) -> Answer:
        """See `pooled` and `Head`."""
        answer: Answer = self.head(self.pooled(x, real), masked)
        return answer


def adapter_losses(
    answer: Answer, label: Tensor, weight: Tensor, *, detach_target: bool
) -> tuple[Tensor, Tensor]:
    """Return L_ce, the weighted mean over clips, and L_mlm.

    Parameters
    ----------
    label, weight
        [B]
    detach_target
        True keeps the gradient of L_mlm out of f_fusion.
    """
    each = F.cross_entropy(answer.logits, label, reduction="none")
    target = answer.fused.detach() if detach_target else answer.fused
    return (each * weight).sum() / weight.sum().clamp_min(1e-12), F.mse_loss(answer.rebuilt, target)
