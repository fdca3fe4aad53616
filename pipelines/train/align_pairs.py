"""Pairs: clips without a label that have both visual and acoustic features."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_store.clips.clip import Clip
from mer_store.clips.clip_list import ClipList
from mer_store.errors import UsageError
from mer_store.store.store import Store
from pipelines.train.align_settings import Settings
from pipelines.train.features import Features, open_features
from pipelines.train.roster import Roster, Rows, make_roster
from pipelines.train.streams import numpy_stream

MIN_PAIRS = 8
MAX_HELD_OUT = 2000


@dataclass(frozen=True)
class Pairs:
    """Visual and acoustic features of the same clips."""

    visual: Features
    audio: Features
    train: Rows
    """Positions among the pairs."""
    held_out: Rows
    n_without_visual: int
    """Clips that were left out: no face, or not extracted."""
    n_without_audio: int
    """Likewise: no speech, or not extracted."""

    @property
    def n(self) -> int:
        """How many there are."""
        return len(self.visual.clip_ids)


def find_pairs(store: Store, clip_list: ClipList, settings: Settings) -> Pairs:
    """Find the clips that have both features, and set some apart.

    Raises
    ------
    UsageError
        There are no such features, or too few clips that have both.
    """
    roster = _unlabelled(clip_list, settings)
    has_visual = open_features(store, "visual", settings.visual, roster, "mean").there
    has_audio = _open_audio(store, settings, roster).there
    both = np.flatnonzero(has_visual & has_audio)
    if len(both) < MIN_PAIRS:
        raise UsageError(
            f"{store.where}: {len(both)} of {len(has_visual)} clips without a label have both visual and "
            f"acoustic features; expected {MIN_PAIRS} or more: extract what is missing (`mer-store status`), "
            f"or pass --set labelled_too=true"
        )
    paired = make_roster([Clip(roster.clip_ids[row]) for row in both.tolist()], ())
    n_held_out = min(max(round(settings.held_out * len(both)), 2), MAX_HELD_OUT)
    shuffled = numpy_stream(settings.seed, "held out").permutation(len(both))
    return Pairs(
        visual=open_features(store, "visual", settings.visual, paired, "mean"),
        audio=_open_audio(store, settings, paired),
        train=np.sort(shuffled[n_held_out:]),
        held_out=np.sort(shuffled[:n_held_out]),
        n_without_visual=int((~has_visual).sum()),
        n_without_audio=int((~has_audio).sum()),
    )


def values_in_order(features: Features) -> NDArray[Any]:
    """Return [n, D] in the order of the pairs; as they were read, each side lies as it does on disk."""
    values: NDArray[Any] = features.values[:, 0]
    in_order = bool((features.row == np.arange(len(values))).all())
    return values if in_order else values[features.row]


def _unlabelled(clip_list: ClipList, settings: Settings) -> Roster:
    """Return the clips without a label given by people, the test set included; their labels are left out."""
    chosen = [
        Clip(clip.clip_id)
        for clip in clip_list.clips
        if settings.labelled_too
        or not clip.label
        or clip.confidence is not None
        or clip.split == "test"
    ]
    if not chosen:
        raise UsageError(
            f"{clip_list.path or 'the clip list'}: every clip has a label; pass --set labelled_too=true "
            f"to align on these"
        )
    return make_roster(chosen, ())


def _open_audio(store: Store, settings: Settings, roster: Roster) -> Features:
    try:
        return open_features(store, "audio", settings.audio, roster, "mean")
    except UsageError as error:
        if settings.audio.recipe != "adapter":
            raise
        raise UsageError(
            f"{error}\nThe paper aligns with the adapted acoustic features: run `mer-store train adapter`, "
            f"then `mer-store extract --modality audio --adapter RUN`. Without them: `--config align-hl18`, "
            f"or --set audio.recipe=default --set audio.layers=18"
        ) from error


def batches(train: Rows, settings: Settings, epoch: int) -> Iterator[Rows]:
    """Yield the batches of an epoch: as few as `batch` allows, their sizes one apart at most."""
    shuffled = numpy_stream(settings.seed, "batches", epoch).permutation(train)
    n_batches = -(-len(train) // settings.batch)
    yield from np.array_split(shuffled, n_batches)
