"""The roster: every clip of a training as columns: its label, its fold, whether it is scored."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mer_store.clips.clip import Clip
from mer_store.clips.clip_list import ClipList
from mer_store.clips.words import CLASS_OF_WORD
from mer_store.errors import UsageError
from mer_store.store.asked import Asked
from pipelines.train.choices import ProtocolSettings

Rows = NDArray[np.int64]
"""Positions in a roster."""
NO_LABEL = -1


@dataclass(frozen=True)
class Roster:
    """Clips in the order of the clip list, as columns. Labels are positions in `classes`."""

    clip_ids: tuple[str, ...]
    classes: tuple[str, ...]
    label: Rows
    """[clips], -1 where there is none."""
    listed_fold: Rows
    """[clips]: the clip list's fold, -1 where it names none."""
    confidence: NDArray[np.float32]
    """[clips]: of a predicted label; 1 for a real one, 0 for none."""
    is_pseudo: NDArray[np.bool_]
    """[clips]: the label was predicted."""
    is_test: NDArray[np.bool_]
    """[clips]: split ``test``: predicted, scored where a label is known, never trained on."""

    @cached_property
    def ids(self) -> NDArray[np.str_]:
        """[clips]: `clip_ids` as an array."""
        return np.array(self.clip_ids, np.str_)

    @cached_property
    def asked(self) -> Asked:
        """The clips, ready to be looked up in any number of feature sets."""
        return Asked.of(self.ids)

    @property
    def scored(self) -> NDArray[np.bool_]:
        """[clips]: labelled by people and not in the test set: what folds are made of."""
        return (self.label >= 0) & ~self.is_pseudo & ~self.is_test

    @property
    def unlabelled(self) -> NDArray[np.bool_]:
        """[clips]: without a label given by people, the test set included."""
        return (self.label < 0) | self.is_pseudo | self.is_test


def read_roster(clip_list: ClipList, settings: ProtocolSettings) -> Roster:
    """Make the roster of a clip list, with the pseudo-labels that `settings` names.

    A row with a ``confidence`` carries a predicted label, whichever list it stands in. A real label wins over
    a predicted one; clips that only the second list knows are added.

    Raises
    ------
    UsageError
        A label is none of the classes, or no clip has a label.
    """
    clips = {clip.clip_id: clip for clip in clip_list.clips}
    if settings.pseudo:
        for clip in ClipList.read(Path(settings.pseudo)).clips:
            known = clips.get(clip.clip_id)
            if clip.label and (known is None or not known.label or known.confidence is not None):
                clips[clip.clip_id] = clip
    roster = make_roster(list(clips.values()), settings.classes)
    if not roster.scored.any():
        raise UsageError(
            f"{clip_list.path or 'the clip list'}: no clip with a label to train on; expected the columns "
            f"label and split (labelled), as `mer-store clips mer2024` writes them"
        )
    return roster


def make_roster(clips: Sequence[Clip], classes: tuple[str, ...]) -> Roster:
    """Turn clips into columns. The organisers' words (``angry``) are taken for the paper's (``anger``)."""
    position = {name: number for number, name in enumerate(classes)}
    position |= {word: position[name] for word, name in CLASS_OF_WORD.items() if name in position}
    unknown = Counter(clip.label for clip in clips if clip.label and clip.label not in position)
    if unknown:
        word, number = unknown.most_common(1)[0]
        raise UsageError(
            f"label {word!r} ({number} clips): expected one of {', '.join(classes)}; for other classes pass "
            f"--set classes=name,name,…"
        )
    confidence = [
        0.0 if not clip.label else 1.0 if clip.confidence is None else clip.confidence
        for clip in clips
    ]
    return Roster(
        clip_ids=tuple(clip.clip_id for clip in clips),
        classes=classes,
        label=np.array([position[c.label] if c.label else NO_LABEL for c in clips], np.int64),
        listed_fold=np.array([-1 if c.fold is None else c.fold for c in clips], np.int64),
        confidence=np.array(confidence, np.float32),
        is_pseudo=np.array([bool(c.label) and c.confidence is not None for c in clips], bool),
        is_test=np.array([c.split == "test" for c in clips], bool),
    )


def clip_weights(roster: Roster, pseudo_weight: float, *, balanced: bool) -> NDArray[np.float32]:
    """Return [clips]: how much each clip counts in the loss.

    A labelled clip counts 1, a pseudo-labelled one its confidence times `pseudo_weight`. `balanced` makes all
    classes count the same over the labelled clips, as scikit-learn's class weights do.
    """
    weight = np.where(roster.is_pseudo, roster.confidence * pseudo_weight, 1.0)
    if balanced:
        counts = np.bincount(roster.label[roster.scored], minlength=len(roster.classes))
        by_class = counts.sum() / (len(counts) * np.maximum(counts, 1))
        weight = weight * by_class[roster.label.clip(0)]
    return weight.astype(np.float32)
