"""What adapters are trained on: cached states, read and padded a batch at a time, one batch ahead."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from pipelines.train.features import Features
from pipelines.train.roster import Rows

Batch = tuple[Rows, Tensor, Tensor | None]
"""Rows of the roster; frames [B, T, D] or pooled layers [B, L, D]; which frames are real, None for all."""
#: Of a padded batch that nothing is learnt from: bounds memory where clips are long.
MAX_FRAMES = 32_768


class CachedStates:
    """The states that adapters start from.

    Parameters
    ----------
    features
        One layer at frame level, or the pooled layers at utterance level.
    """

    def __init__(self, features: Features, device: torch.device) -> None:
        self.features = features
        self._device = device

    @property
    def frames(self) -> bool:
        """Whether they are at frame level."""
        return self.features.feature_set.spec.level == "frame"

    def read(self, rows: Rows) -> tuple[Tensor, Tensor | None]:
        """Return the states of clips in float32 on the CPU, padded with zeros, and which frames are real."""
        if not self.frames:
            pooled = self.features.values[self.features.row[rows]]
            return torch.from_numpy(pooled.astype(np.float32)), None
        ids = [self.features.clip_ids[row] for row in rows.tolist()]
        clips = self.features.feature_set.ragged(self.features.layers, ids, np.float32)
        lengths = [len(clip) for clip in clips]
        padded = torch.zeros(len(clips), max(lengths), clips[0].shape[2])
        for place, clip in zip(padded, clips, strict=True):
            place[: len(clip)] = torch.from_numpy(clip[:, 0])
        if min(lengths) == max(lengths):
            return padded, None
        return padded, torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]

    def batches(self, batches: Sequence[Rows]) -> Iterator[Batch]:
        """Yield batches on the device; the next one is read while one is computed with."""
        with ThreadPoolExecutor(1, thread_name_prefix="read") as pool:
            ahead = [pool.submit(self.read, rows) for rows in batches[:1]]
            for number, rows in enumerate(batches):
                x, real = ahead.pop().result()
                if number + 1 < len(batches):
                    ahead.append(pool.submit(self.read, batches[number + 1]))
                mask = None if real is None else real.to(self._device, non_blocking=True)
                yield rows, x.to(self._device, non_blocking=True), mask

    def by_length(self, rows: Rows, batch: int) -> list[Rows]:
        """Cut `rows` into batches of clips of like length, so that little is padded."""
        if not self.frames:
            return np.array_split(rows, max(1, -(-len(rows) // batch)))
        index = self.features.feature_set.index
        ids = [self.features.clip_ids[row] for row in rows.tolist()]
        serving = index.column(str(self.features.layers[0]))[index.find(ids)]
        n_frames = index.rows["n_rows"][serving]
        order = np.argsort(n_frames, kind="stable")
        ends = cut_by_length(n_frames[order], batch)
        return np.split(rows[order], ends[:-1])


def cut_by_length(n_frames: Rows, batch: int, most: int = MAX_FRAMES) -> list[int]:
    """Return the end of each batch of clips in ascending length: `batch` clips or `most` frames at most."""
    ends, start = [], 0
    for place, longest in enumerate(n_frames.tolist()):
        n_clips = place + 1 - start
        if n_clips > 1 and (n_clips > batch or n_clips * longest > most):
            ends.append(place)
            start = place
    return [*ends, len(n_frames)]
