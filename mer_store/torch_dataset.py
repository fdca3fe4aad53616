"""A feature set as a torch dataset. The one file of the store's side that imports torch.

Shape letters: B clips in a batch, T frames, L layers, D feature width.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mer_store.errors import UsageError
from mer_store.layers import Layer
from mer_store.opening import open_store
from mer_store.store.feature_set import FeatureSet


@dataclass(frozen=True)
class ClipFeatures:
    """One clip of a dataset."""

    clip_id: str
    features: Tensor
    """[T, L, D] at frame level, [L, D] at utterance level."""


@dataclass(frozen=True)
class FrameBatch:
    """Clips of different length in one tensor."""

    clip_ids: tuple[str, ...]
    features: Tensor
    """[B, T, L, D], zeros after a clip's last frame."""
    mask: Tensor
    """[B, T] bool: True where there is a frame."""


class StoreDataset(Dataset[ClipFeatures]):
    """The clips of one feature set, in a fixed order.

    A batch is read in one call, so that a loader with ``batch_size=16`` makes one read of 16 clips. Each
    worker process opens the store for itself: fork and spawn are both safe.

    Parameters
    ----------
    store
        Path of the store.
    modality, level
        The feature set; further words that choose it (``model``, ``recipe``, ``fingerprint``) by keyword.
    layers
        Which layers, ascending.
    clip_ids
        Which clips, in this order; None is every clip that has the layers.

    Raises
    ------
    UsageError
        No such feature set, or clips without the layers.
    """

    def __init__(
        self,
        store: str | Path,
        modality: str,
        *,
        level: str,
        layers: Sequence[Layer],
        clip_ids: Sequence[str] | None = None,
        **which: Any,
    ) -> None:
        self._choice = (str(store), modality, {"level": level, **which})
        self._opened: tuple[int, FeatureSet] | None = None
        self.level = level
        self.layers = tuple(layers)
        features = self._features()
        known = list(features.clip_ids if clip_ids is None else clip_ids)
        complete = [bool(there.all()) for there in features.ledger(known).has(self.layers)]
        if clip_ids is not None and not all(complete):
            lacking = [clip_id for clip_id, there in zip(known, complete, strict=True) if not there]
            raise UsageError(
                f"{features.path}: {len(lacking)} of {len(known)} clips lack some of layers {self.layers}: "
                f"{', '.join(lacking[:5])}; run `mer-store extract --modality {modality}` for them"
            )
        self.clip_ids = tuple(
            clip_id for clip_id, there in zip(known, complete, strict=True) if there
        )

    def __len__(self) -> int:
        return len(self.clip_ids)

    def __getitem__(self, index: int) -> ClipFeatures:
        """Return one clip."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[ClipFeatures]:
        """Return the clips of one batch, read together."""
        ids = [self.clip_ids[index] for index in indices]
        if self.level == "frame":
            rows = self._features().ragged(layers=self.layers, clip_ids=ids)
        else:
            rows = list(self._features().read(layers=self.layers, clip_ids=ids))
        return [
            ClipFeatures(clip_id, torch.from_numpy(row))
            for clip_id, row in zip(ids, rows, strict=True)
        ]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open store behind: a spawned worker opens its own."""
        return {**self.__dict__, "_opened": None}

    def _features(self) -> FeatureSet:
        if self._opened is None or self._opened[0] != os.getpid():
            path, modality, which = self._choice
            self._opened = (os.getpid(), open_store(path).features(modality, **which))
        return self._opened[1]


def pad_frames(clips: Sequence[ClipFeatures]) -> FrameBatch:
    """Collate clips of frame level: pad with zeros to the longest and say where the frames are."""
    lengths = torch.tensor([len(clip.features) for clip in clips])
    features = torch.nn.utils.rnn.pad_sequence([clip.features for clip in clips], batch_first=True)
    mask = torch.arange(features.shape[1]) < lengths[:, None]
    return FrameBatch(tuple(clip.clip_id for clip in clips), features, mask)
