"""One lane of the adapter's training: its model, its optimiser, its batches, the epoch it keeps."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from extractors.models.devices import arithmetic, pick_dtype
from pipelines.lines import line_options
from pipelines.train.adapter_data import CachedStates
from pipelines.train.adapter_model import AdapterModel, adapter_losses
from pipelines.train.epochs import TrainingState
from pipelines.train.lanes import Lane, count_batches, epoch_batches, of_all_clips
from pipelines.train.roster import Roster, Rows
from pipelines.train.scores import weighted_f1
from pipelines.train.selection import BestEpoch
from pipelines.train.streams import stream

if TYPE_CHECKING:
    from pipelines.train.adapter import Settings


class AdapterLane:
    """A model in training."""

    def __init__(self, model: AdapterModel, lane: Lane, settings: "Settings") -> None:
        self.model, self.lane, self._settings = model, lane, settings
        own = [model.head.layer_weights]
        others = [p for name, p in model.named_parameters() if name != "head.layer_weights"]
        groups: list[dict[str, Any]] = [
            {"params": others},
            {"params": own, "lr": settings.layer_lr, "weight_decay": 0.0},
        ]
        self._adam = torch.optim.Adam(groups, lr=settings.lr, weight_decay=settings.weight_decay)
        self._best = BestEpoch(model) if settings.selection != "last" else None
        self._masks = stream(lane.seed)

    @property
    def _device(self) -> torch.device:
        return self.model.head.layer_weights.device

    def _arithmetic(self) -> AbstractContextManager[Any]:
        dtype, _ = pick_dtype(self._device, "auto")
        return arithmetic(self._device, dtype)

    def batches(self, epoch: int) -> list[Rows]:
        """Return the clips of each batch of an epoch, and start the epoch's masks."""
        self._masks = stream(self.lane.seed, "masks", self.lane.repeat, self.lane.fold, epoch)
        n_batches = count_batches([self.lane], self._settings.batch)
        return [rows[0][real[0]] for rows, real in epoch_batches([self.lane], n_batches, epoch)]

    def step(
        self, x: Tensor, real: Tensor | None, label: Rows, weight: NDArray[np.float32]
    ) -> tuple[float, float]:
        """Take one step; return L_ce and L_mlm."""
        drawn = torch.rand(len(x), self.model.head.classes.in_features, generator=self._masks)
        masked = (drawn < self._settings.masked_share).to(self._device)
        with self._arithmetic():
            ce, mlm = adapter_losses(
                self.model(x, real, masked),
                torch.from_numpy(label).to(self._device),
                torch.from_numpy(weight).to(self._device),
                detach_target=self._settings.detach_target,
            )
        self._adam.zero_grad()
        torch.autograd.backward(ce + mlm)
        self._adam.step()
        return ce.item(), mlm.item()

    @torch.no_grad()
    def logits(self, x: Tensor, real: Tensor | None) -> NDArray[np.float32]:
        """Return [B, C], nothing masked."""
        with self._arithmetic():
            answer = self.model(x, real)
        logits: NDArray[np.float32] = answer.logits.float().cpu().numpy()
        return logits

    def choose(self, epoch: int, states: CachedStates, roster: Roster) -> float:
        """Score the model on the clips that choose its epoch, and keep it if it is the best so far."""
        rows, predicted = [], []
        for batch, x, real in states.batches(
            states.by_length(self.lane.choose, self._settings.batch)
        ):
            rows.append(batch)
            predicted.append(self.logits(x, real).argmax(axis=1))
        label = roster.label[np.concatenate(rows)]
        score = float(weighted_f1(label, np.concatenate(predicted), len(roster.classes)))
        if self._best is not None:
            self._best.offer(epoch, score)
        return score

    def take_chosen(self) -> None:
        """Put the chosen epoch's parameters into the model."""
        if self._best is not None and self._best.epoch >= 0:
            self._best.take()

    def n_epochs(self, trained: int) -> int:
        """Return after how many epochs the model is as it is reported."""
        return trained if self._best is None else int(self._best.epoch) + 1

    @property
    def state(self) -> TrainingState:
        """What a checkpoint keeps of it."""
        others = [] if self._best is None else [self._best]
        return TrainingState({"model": self.model}, {"adam": self._adam}, *others)


def predict_lanes(
    models: Sequence[AdapterLane], states: CachedStates, rows: Rows, n_clips: int, batch: int = 64
) -> NDArray[np.floating]:
    """Return logits [K, clips, C] of the clips at `rows`, each read once; NaN for all others."""
    order, parts = [], []
    with tqdm(total=len(rows), desc="predicting", unit=" clips", **line_options(sys.stderr)) as bar:
        for some, x, real in states.batches(states.by_length(rows, batch)):
            order.append(some)
            parts.append(np.stack([model.logits(x, real) for model in models]))
            bar.update(len(some))
    return of_all_clips(np.concatenate(parts, axis=1), np.concatenate(order), n_clips)
