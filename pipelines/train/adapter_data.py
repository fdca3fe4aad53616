"""What adapters are trained on: cached states, read and padded a batch at a time, one batch ahead."""

import shlex
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from extractors.models.blocks import pad_frames
from mer_store.errors import UsageError
from mer_store.layers import describe_layers
from mer_store.store.store import Store
from pipelines.train.choices import FeatureChoice
from pipelines.train.features import Features, open_features
from pipelines.train.roster import Roster, Rows

if TYPE_CHECKING:
    from pipelines.train.adapter import Settings

Batch = tuple[Rows, Tensor, Tensor | None]
"""Rows of the roster; frames [B, T, D] or pooled layers [B, L, D]; which frames are real, None for all."""
#: Of a padded batch that nothing is learnt from: bounds memory where clips are long.
MAX_FRAMES = 32_768


def open_states(
    store: Store, roster: Roster, settings: "Settings", fingerprint: str | None = None
) -> Features:
    """Find what is trained on; `fingerprint` takes the set that a run was trained on, whatever was added.

    Raises
    ------
    UsageError
        It is not there, or several sets fit, or it has not the layers that are needed.
    """
    choice = settings.frames if settings.site == "blocks" else settings.pooled
    if fingerprint:
        choice = FeatureChoice(choice.layers, "", "", fingerprint)
    if settings.site == "blocks":
        return _open_frames(store, roster, settings, choice)
    features = open_features(store, "audio", replace(choice, layers=settings.layers), roster)
    if named := [layer for layer in features.layers if isinstance(layer, str)]:
        raise UsageError(f"setting layers: expected numbers, such as 16-21; got {named[0]}")
    return features


def _open_frames(
    store: Store, roster: Roster, settings: "Settings", choice: FeatureChoice
) -> Features:
    try:
        features = open_features(store, "audio", choice, roster, level="frame")
    except UsageError as error:
        if _has_frames(store, choice.layers):
            raise
        raise UsageError(
            f"{error}\nAdapters in blocks start from cached frames: run `{_extraction(settings)}`, or "
            f"pull them; --set site=outputs needs pooled layers only"
        ) from error
    if len(features.layers) != 1 or isinstance(features.layers[0], str):
        raise UsageError(
            f"setting frames.layers: expected the one layer below the adapted blocks, such as 15; got "
            f"{describe_layers(features.layers)}"
        )
    return features


def _has_frames(store: Store, layer: str) -> bool:
    """Whether any set has frames of a layer, an empty text meaning any layer."""
    audio = [one for one in store.feature_sets() if one.spec.modality == "audio"]
    held = {str(n) for one in audio if one.spec.level == "frame" for n in one.layers}
    return layer in held if layer else bool(held)


def _extraction(settings: "Settings") -> str:
    """Return the command that makes the frames, and in the same pass the pooled layers."""
    frames, options = settings.frames, ""
    if model := settings.model or frames.model:
        options += f" --model {shlex.quote(model)}"
    if frames.recipe not in ("", "default"):
        options += f" --recipe {shlex.quote(frames.recipe)}"
    layers = f"--layers {settings.layers} --frame-layers {frames.layers or 'LAYER'}"
    return f"mer-store extract --modality audio {layers}{options}"


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
        return pad_frames([clip[:, 0] for clip in clips])

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
