"""Alignment of visual features with acoustic ones (Zhao et al., MRAC '24): an MLP and a contrastive loss.

Shape letters: B pairs in a batch, n pairs in all, V and A widths of visual and acoustic features, H hidden.
"""

import hashlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.train.stacked import scale_of
from pipelines.train.streams import stream

#: CLIP's own limit (Radford et al. 2021): logits are scaled by no more than this.
MAX_SCALE = 100.0
#: Rows that are widened to float at a time.
PIECE_ROWS = 4096


class VisionMLP(nn.Module):
    """f_v = ReLU(W1 ReLU(W2 f + b1) + b2), the paper's formula, with its names.

    Initialised as `torch.nn.Linear`, from streams of the seed.
    """

    def __init__(self, n_visual: int, n_hidden: int, n_audio: int, seed: int) -> None:
        super().__init__()
        self.w2, self.b1 = _linear(n_visual, n_hidden, stream(seed, "init", "align.inner"))
        self.w1, self.b2 = _linear(n_hidden, n_audio, stream(seed, "init", "align.outer"))

    def forward(self, f: Tensor) -> Tensor:
        """[B, V] -> [B, A], not negative."""
        return F.relu(F.linear(F.relu(F.linear(f, self.w2, self.b1)), self.w1, self.b2))


def _linear(n_in: int, n_out: int, generator: torch.Generator) -> tuple[nn.Parameter, nn.Parameter]:
    bound = 1 / math.sqrt(n_in)
    weight = torch.empty(n_out, n_in).uniform_(-bound, bound, generator=generator)
    bias = torch.empty(n_out).uniform_(-bound, bound, generator=generator)
    return nn.Parameter(weight), nn.Parameter(bias)


class Standardise(nn.Module):
    """Shifts and scales each feature to mean 0 and variance 1 over the training pairs.

    A constant one becomes 0.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    @torch.no_grad()
    def fit(self, values: Tensor, rows: Tensor) -> None:
        """Measure the rows of `values` [n, D]."""
        pieces = [rows[start : start + PIECE_ROWS] for start in range(0, len(rows), PIECE_ROWS)]
        total = squares = torch.zeros(values.shape[1], dtype=torch.float64, device=values.device)
        for piece in pieces:
            total = total + values[piece].double().sum(dim=0)
        mean = total / len(rows)
        for piece in pieces:
            squares = squares + (values[piece].double() - mean).square().sum(dim=0)
        self.mean.copy_(mean)
        self.scale.copy_(scale_of((squares / len(rows)).sqrt()))

    def forward(self, x: Tensor) -> Tensor:
        """[B, D] -> [B, D] in float32."""
        return (x.float() - self.mean) * self.scale


class Aligner(nn.Module):
    """The vision MLP, what both sides are standardised by, and the learnable temperature.

    Parameters
    ----------
    temperature
        At the start. Logits are cosines divided by it; its logarithm is what is learned, as in CLIP.
    seed
        Of the MLP's start.
    """

    def __init__(
        self, n_visual: int, n_hidden: int, n_audio: int, temperature: float = 0.07, seed: int = 0
    ) -> None:
        super().__init__()
        self.visual = Standardise(n_visual)
        self.audio = Standardise(n_audio)
        self.mlp = VisionMLP(n_visual, n_hidden, n_audio, seed)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    @classmethod
    def of_weights(cls, weights: dict[str, Tensor]) -> "Aligner":
        """Return the one that was saved as `weights`."""
        n_hidden, n_visual = weights["mlp.w2"].shape
        model = cls(n_visual, n_hidden, len(weights["mlp.b2"]))
        model.load_state_dict(weights)
        return model.eval()

    @property
    def temperature(self) -> float:
        """What cosines are divided by."""
        return math.exp(-self.log_scale.item())

    def align(self, f: Tensor) -> Tensor:
        """Return the aligned features [B, A] of pooled visual features [B, V]."""
        aligned: Tensor = self.mlp(self.visual(f))
        return aligned

    def forward(self, f: Tensor, a: Tensor) -> Tensor:
        """Return logits [B, B] of B pairs: row i, column j is the cosine of f_v i and audio j, scaled."""
        return self.log_scale.exp() * cosines(self.align(f), self.audio(a))

    @torch.no_grad()
    def limit_temperature(self) -> None:
        """Keep the scale of logits at `MAX_SCALE` or below, after each step as CLIP does."""
        self.log_scale.clamp_(max=math.log(MAX_SCALE))

    def digest(self) -> str:
        """Digest of all that decides the aligned features: not of what the audio side is compared by."""
        digest = hashlib.sha256()
        for name, tensor in self._deciding():
            digest.update(f"{name} {tuple(tensor.shape)} ".encode())
            digest.update(tensor.detach().float().cpu().numpy().tobytes())
        return f"sha256:{digest.hexdigest()}"

    def _deciding(self) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in sorted(self.state_dict().items()):
            if name.startswith(("mlp.", "visual.")):
                yield name, tensor


def cosines(x: Tensor, y: Tensor) -> Tensor:
    """Return [n, m] from [n, D] and [m, D]; a vector of zeros has cosine 0 with all."""
    return F.normalize(x, dim=1) @ F.normalize(y, dim=1).T


def contrastive_loss(logits: Tensor) -> Tensor:
    """Return the symmetric contrastive loss of logits [B, B] whose diagonal holds the pairs.

    The mean of the cross-entropies of picking a clip's audio by its images and its images by its audio
    (Radford et al. 2021, as Zhao et al. use it).
    """
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def recall_at(similarity: Tensor, k: int) -> float:
    """Return the share of rows of [n, n] whose own column is among the k most similar.

    A tie counts against: features that are all alike find nothing.
    """
    own = similarity.diagonal()[:, None]
    n_as_similar = (similarity >= own).sum(dim=1)
    return float((n_as_similar <= k).double().mean())
