"""A feature set as a torch dataset. The one file of the store's side that imports torch.

Shape letters: B clips in a batch, T frames, L layers, D feature width.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from mer_store.errors import UsageError
from mer_store.layers import Layer
from mer_store.opening import open_store
from mer_store.store.feature_set import FeatureSet
from mer_store.torch_memory import batch_memory, received, send


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


class ReadTogether(list[ClipFeatures]):
    """Clips that were read into one padded tensor, each a view of it."""

    def __init__(self, batch: FrameBatch, lengths: Sequence[int]) -> None:
        clips = zip(batch.clip_ids, batch.features, lengths, strict=True)
        super().__init__(ClipFeatures(clip_id, rows[:length]) for clip_id, rows, length in clips)
        self.batch = batch


class StoreDataset(Dataset[ClipFeatures]):
    """The clips of one feature set, in a fixed order.

    A batch is read in one call: a loader with ``batch_size=16`` makes one read of 16 clips. With
    ``collate_fn=pad_frames`` their frames go straight from the store's files into the tensor of the batch, in
    memory that is used again once nobody holds the batch; a worker's is shared with the loader. Each worker
    process opens the store for itself: fork and spawn are both safe.

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
            return self._frames_of(ids)
        rows = torch.from_numpy(self._features().read(layers=self.layers, clip_ids=ids))
        return [ClipFeatures(clip_id, row) for clip_id, row in zip(ids, rows, strict=True)]

    def _frames_of(self, ids: Sequence[str]) -> ReadTogether:
        made: list[Tensor] = []

        def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
            made.append(batch_memory().empty(shape, dtype))
            return made[0].numpy()

        _, lengths = self._features().padded(layers=self.layers, clip_ids=ids, empty=empty)
        mask = torch.arange(made[0].shape[1]) < torch.from_numpy(lengths)[:, None]
        return ReadTogether(FrameBatch(tuple(ids), made[0], mask), lengths.tolist())

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
    if isinstance(clips, ReadTogether):
        return clips.batch
    lengths = torch.tensor([len(clip.features) for clip in clips])
    features = torch.nn.utils.rnn.pad_sequence([clip.features for clip in clips], batch_first=True)
    mask = torch.arange(features.shape[1]) < lengths[:, None]
    return FrameBatch(tuple(clip.clip_id for clip in clips), features, mask)


def _send_batch(batch: FrameBatch) -> tuple[Any, ...]:
    """Say how another process gets a batch: where it lies in shared memory, by that memory."""
    block = batch_memory().shared_block(batch.features)
    if block is None:
        return FrameBatch, (batch.clip_ids, batch.features, batch.mask)
    shape, dtype = tuple(batch.features.shape), batch.features.numpy().dtype.str
    return _receive_batch, (batch.clip_ids, send(block), shape, dtype, batch.mask)


def _receive_batch(
    clip_ids: tuple[str, ...], memory: Tensor, shape: tuple[int, ...], dtype: str, mask: Tensor
) -> FrameBatch:
    return FrameBatch(clip_ids, received(memory, shape, dtype), mask)


ForkingPickler.register(FrameBatch, _send_batch)
