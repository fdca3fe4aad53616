"""What the fusion reads: the features of several modalities for one roster, and which of them a clip has."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.train.features import Features
from pipelines.train.lanes import Lane
from pipelines.train.roster import Rows
from pipelines.train.stacked import Standardise, gather


@dataclass(frozen=True)
class Inputs:
    """Features of M modalities, held in memory as they are stored."""

    features: tuple[Features, ...]
    device: torch.device
    values: tuple[Tensor, ...]
    """[n, 1, D] per modality, on the device."""

    @classmethod
    def load(cls, features: Sequence[Features], device: torch.device) -> "Inputs":
        """Read them."""
        values = tuple(torch.from_numpy(item.values).to(device) for item in features)
        return cls(tuple(features), device, values)

    @property
    def present(self) -> NDArray[np.bool_]:
        """[clips, M]: which modalities each clip has."""
        return np.stack([item.there for item in self.features], axis=1)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """[clips]: has any of the modalities."""
        return np.asarray(self.present.any(axis=1), bool)

    @property
    def widths(self) -> tuple[int, ...]:
        """D of each modality."""
        return tuple(values.shape[-1] for values in self.values)

    def batch(self, rows: Rows) -> tuple[list[Tensor], Tensor]:
        """Return [..., 1, D] per modality and present [..., M] of the clips at `rows` [...] of the roster."""
        taken = [
            gather(values, item.row[rows])
            for values, item in zip(self.values, self.features, strict=True)
        ]
        return [x for x, _ in taken], torch.stack([there for _, there in taken], dim=-1)

    def standardise(self, lanes: Sequence[Lane], *, fitted: bool) -> list[Standardise]:
        """Return one standardisation a modality, over each lane's training clips."""
        if not fitted:
            return [Standardise.nothing(len(lanes), (1, width)) for width in self.widths]
        return [
            Standardise.fit(values, item.row, lanes)
            for values, item in zip(self.values, self.features, strict=True)
        ]
