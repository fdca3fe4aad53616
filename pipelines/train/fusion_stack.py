"""A stack of fusion models in training: those of one shape and learning rate, in all lanes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.train.epochs import TrainingState
from pipelines.train.fusion_data import Inputs
from pipelines.train.fusion_model import Fusions, FusionShape, drop_modalities
from pipelines.train.lanes import Lane
from pipelines.train.roster import Roster, Rows
from pipelines.train.scores import choice_scores
from pipelines.train.selection import BestEpochs
from pipelines.train.stacked import Noise, cross_entropy, lane_streams, mean_loss, spread

if TYPE_CHECKING:
    from pipelines.train.fusion import Settings

CHUNK = 4096


@dataclass(frozen=True)
class Variant:
    """What differs between the models of a search."""

    hidden: int
    dropout: float
    lr: float


class FusionStack:
    """S = K * Q fusion models, their optimiser, and the epochs that are kept."""

    def __init__(
        self, variants: Sequence[Variant], settings: "Settings", inputs: Inputs, lanes: Sequence[Lane],
        *, fitted: bool,
    ) -> None:  # fmt: skip
        self.variants = list(variants)
        self._settings, self._lanes, self._device = settings, lanes, inputs.device
        q, [hidden], [lr] = len(variants), {v.hidden for v in variants}, {v.lr for v in variants}
        shape = FusionShape(inputs.widths, hidden, settings.depth, len(settings.classes), q)
        dropout = torch.tensor([v.dropout for v in variants] * len(lanes), device=inputs.device)
        scales = inputs.standardise(lanes, fitted=fitted and settings.standardise)
        self.model = Fusions(shape, scales, dropout, lane_streams(lanes, q)).to(inputs.device)
        self._adam = torch.optim.Adam(
            self.model.parameters(), lr=lr, weight_decay=settings.weight_decay, fused=True
        )
        chooses = settings.selection != "last"
        self._best = BestEpochs(self.model, len(lanes) * q) if chooses else None
        self._total = torch.zeros(())

    @classmethod
    def build(
        cls, variants: Sequence[Variant], settings: "Settings", inputs: Inputs, lanes: Sequence[Lane],
        *, fitted: bool = True,
    ) -> "list[FusionStack]":  # fmt: skip
        """Return the stacks of some variants: one for each width and learning rate among them.

        `fitted` measures the standardisation; else it is to be loaded.
        """
        groups: dict[tuple[int, float], list[Variant]] = {}
        for variant in variants:
            groups.setdefault((variant.hidden, variant.lr), []).append(variant)
        return [cls(group, settings, inputs, lanes, fitted=fitted) for group in groups.values()]

    def begin(self, epoch: int) -> None:
        """Begin an epoch."""
        self._total = torch.zeros((), device=self._device)
        q, batch = len(self.variants), self._settings.batch
        self._noise = Noise(self._lanes, epoch, batch, q, self._device)

    def step(self, x: Sequence[Tensor], present: Tensor, label: Tensor, weight: Tensor) -> None:
        """Take one step of every model.

        Parameters
        ----------
        x
            [K, B, 1, D] per modality
        present
            [K, B, M]
        label, weight
            [K, B]
        """
        q = len(self.variants)
        if rate := self._settings.modality_dropout:
            noise = self._noise(present.shape[1], present.shape[2])[::q]
            present = drop_modalities(present, noise, rate)
        logits, _ = self.model(x, present, self._noise)
        losses = cross_entropy(logits, spread(label, q))
        loss = mean_loss(losses, spread(weight, q)).sum()
        self._adam.zero_grad()
        torch.autograd.backward(loss)
        self._adam.step()
        self._total += loss.detach() / len(losses)

    def mean_loss(self, n_batches: int) -> float:
        """Return the loss of the epoch, over models and batches."""
        return self._total.item() / n_batches

    def choose(self, epoch: int, inputs: Inputs, roster: Roster) -> float:
        """Score every model on the clips that choose its epoch, keep what improved; return the mean score."""
        scores = choice_scores(roster, self._lanes, lambda rows: self.predict(inputs, rows)[0])
        if self._best is not None:
            self._best.offer(epoch, torch.from_numpy(scores).float())
        return float(scores.mean())

    def take_chosen(self) -> None:
        """Put the chosen epochs' parameters into the models."""
        if self._best is not None:
            self._best.take()

    def epochs_chosen(self, n_epochs: int) -> list[int] | int:
        """Return the epoch chosen for each model, from 0, or how many there were where none is chosen."""
        return n_epochs if self._best is None else [int(e) for e in self._best.epoch]

    @property
    def chosen_scores(self) -> NDArray[Any] | None:
        """[K, Q]: each model's best score on the clips that chose its epoch; None where none was chosen."""
        if self._best is None:
            return None
        scores: NDArray[Any] = self._best.score.view(-1, len(self.variants)).numpy()
        return scores

    @torch.no_grad()
    def predict(self, inputs: Inputs, rows: Rows) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return logits [S, n, C] and attention [S, n, M] of the clips at `rows` of the roster."""
        chunks = (rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK))
        parts = [self.model.on_shared(*inputs.batch(chunk)) for chunk in chunks]
        logits = torch.cat([part.cpu() for part, _ in parts], dim=1)
        return logits.numpy(), torch.cat([alpha.cpu() for _, alpha in parts], dim=1).numpy()

    @property
    def state(self) -> TrainingState:
        """What a checkpoint keeps of it."""
        others = [] if self._best is None else [self._best]
        return TrainingState({"fusions": self.model}, {"adam": self._adam}, *others)
