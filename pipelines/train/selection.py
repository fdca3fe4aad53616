"""Which epoch of each model is reported: its parameters are kept while others train on."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class _Kept:
    """A copy of a model's parameters, and the score and epoch they are of."""

    def __init__(self, model: nn.Module, shape: tuple[int, ...]) -> None:
        self._model = model
        self.score = torch.full(shape, -torch.inf)
        self.epoch = torch.full(shape, -1)
        self._kept = {name: value.detach().clone() for name, value in model.named_parameters()}

    @torch.no_grad()
    def take(self) -> None:
        """Put the kept parameters into the model."""
        for name, value in self._model.named_parameters():
            value.copy_(self._kept[name])

    def tensors(self) -> dict[str, Tensor]:
        """Return all of it by name, for a checkpoint."""
        return {"score": self.score, "epoch": self.epoch} | {
            f"kept.{name}": value for name, value in self._kept.items()
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `tensors` returned."""
        self.score.copy_(tensors["score"])
        self.epoch.copy_(tensors["epoch"])
        for name, value in self._kept.items():
            value.copy_(tensors[f"kept.{name}"])


class BestEpochs(_Kept):
    """Keeps, for each of S stacked models, the parameters of the epoch with its best score.

    Parameters
    ----------
    model
        Its parameters have S models along their first dimension; all others are shared by none.
    """

    def __init__(self, model: nn.Module, n_models: int) -> None:
        super().__init__(model, (n_models,))

    def offer(self, epoch: int, scores: Tensor) -> None:
        """Keep what improved: `scores` is [S]; the first of equal epochs stays."""
        better = torch.nonzero(scores.cpu() > self.score).flatten()
        self.score[better] = scores.cpu()[better].to(self.score)
        self.epoch[better] = epoch
        for name, value in self._model.named_parameters():
            rows = better.to(value.device)
            self._kept[name][rows] = value.detach()[rows]


class BestEpoch(_Kept):
    """Keeps the parameters of one model at the epoch with its best score."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model, ())

    def offer(self, epoch: int, score: float) -> None:
        """Keep the parameters if they are better; the first of equal epochs stays."""
        if score > self.score.item():
            self.score.fill_(score)
            self.epoch.fill_(epoch)
            for name, value in self._model.named_parameters():
                self._kept[name].copy_(value.detach())
