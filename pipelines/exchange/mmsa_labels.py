"""Labels and splits of a clip list, as MMSA has them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from math import isfinite

from mer_store.clips.clip_list import Clip, ClipList
from mer_store.clips.words import CLASS_OF_WORD, CLASSES
from mer_store.errors import UsageError

SPLITS = ("train", "valid", "test")
SIGNS = ("Negative", "Neutral", "Positive")
VALID_FOLD, TEST_FOLD, N_FOLDS = 0, 1, 5


@dataclass(frozen=True)
class Labels:
    """What people said of the clips; predicted labels are not taken."""

    clips: Mapping[str, Clip]
    """Those with a label, in the order of the list."""
    classes: tuple[str, ...]
    word: Mapping[str, str]
    """Clip id -> class."""
    number: Mapping[str, int]
    """Clip id -> place of its class."""
    value: Mapping[str, float]
    """Clip id -> the number in the list, else the place of its class: MMSA asks for one."""
    n_left_out: int


def read_labels(clip_list: ClipList | None) -> Labels:
    """Read labels: numbers (their sign is the class) or words, the paper's classes in their order.

    Raises
    ------
    UsageError
        There is no list, or no clip of it has a label.
    """
    clips = (
        [clip for clip in clip_list.clips if clip.label and clip.confidence is None]
        if clip_list
        else []
    )
    if clip_list is None or not clips:
        raise UsageError(
            "MMSA's file needs labels: give a clip list with a label column by --clips"
        )
    said = {clip.clip_id: CLASS_OF_WORD.get(clip.label or "", clip.label or "") for clip in clips}
    values = _numbers(said)
    classes: tuple[str, ...] = SIGNS
    if values is not None:
        number = {clip_id: 1 + (value > 0) - (value < 0) for clip_id, value in values.items()}
    else:
        known = set(said.values()) <= set(CLASSES)
        classes = CLASSES if known else tuple(sorted(set(said.values())))
        number = {clip_id: classes.index(word) for clip_id, word in said.items()}
    return Labels(
        clips={clip.clip_id: clip for clip in clips},
        classes=classes,
        word={clip_id: classes[place] for clip_id, place in number.items()},
        number=number,
        value=values or {clip_id: float(place) for clip_id, place in number.items()},
        n_left_out=len(clip_list.clips) - len(clips),
    )


def split_clips(clips: Iterable[Clip]) -> dict[str, list[Clip]]:
    """Deal labelled clips out to MMSA's splits, in the order given.

    Raises
    ------
    UsageError
        Some clips have a fold and some have none.
    """
    clips = list(clips)
    test = [clip for clip in clips if clip.split == "test"]
    others = [clip for clip in clips if clip.split != "test"]
    folds = {clip.clip_id: clip.fold for clip in others if clip.fold is not None}
    if folds and len(folds) < len(others):
        lacking = next(clip.clip_id for clip in others if clip.fold is None)
        raise UsageError(
            f"{len(others) - len(folds)} labelled clips have no fold, e.g. {lacking}; give every one a fold, "
            f"or none"
        )
    folds = folds or _deal(others)
    held = {VALID_FOLD: "valid"} if test else {VALID_FOLD: "valid", TEST_FOLD: "test"}
    splits: dict[str, list[Clip]] = {"train": [], "valid": [], "test": test}
    for clip in others:
        splits[held.get(folds[clip.clip_id], "train")].append(clip)
    if empty := [name for name, found in splits.items() if not found]:
        raise UsageError(
            f"no clip for {' and '.join(empty)}: fold {VALID_FOLD} is valid; test are the labelled clips of "
            f"split test, else fold {TEST_FOLD}; all other folds are train"
        )
    return splits


def _deal(clips: Iterable[Clip]) -> dict[str, int]:
    """Give each class's clips folds in turn, in an order that only their ids decide."""
    by_class: defaultdict[str, list[str]] = defaultdict(list)
    for clip in clips:
        by_class[clip.label or ""].append(clip.clip_id)
    folds: dict[str, int] = {}
    for label in sorted(by_class):
        for clip_id in sorted(by_class[label], key=lambda name: sha256(name.encode()).digest()):
            folds[clip_id] = len(folds) % N_FOLDS
    return folds


def _numbers(said: Mapping[str, str]) -> dict[str, float] | None:
    try:
        values = {clip_id: float(word) for clip_id, word in said.items()}
    except ValueError:
        return None
    return values if all(map(isfinite, values.values())) else None
