"""MMSA's ``.pkl``: one dict of splits with padded features, transcripts and labels. Written only, never read.

A pickle runs whatever its writer put into it, so mer-store reads none. What MMSA's data loader takes from
the file (thuiar/MMSA, ``src/MMSA/data_loader.py``)::

    {"train" | "valid" | "test": {
        "id", "raw_text", "annotations":       lists of text
        "text", "audio", "vision":             float32 [clips, T, D], zeros after a clip's last row
        "audio_lengths", "vision_lengths":     lists of rows
        "classification_labels":               int64 [clips]
        "regression_labels":                   float32 [clips]}}

``text_bert`` is not in it: run MMSA with ``use_bert`` off.
"""

import pickle
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mer_store.clips.clip_list import Clip, ClipList
from mer_store.errors import UsageError
from mer_store.layers import Layer, describe_layers
from mer_store.spec import MODALITIES
from mer_store.store.feature_set import FeatureSet
from mer_store.store.store import Store
from pipelines.exchange.chosen import layer_type
from pipelines.exchange.coverage import Coverage
from pipelines.exchange.mertools_layout import layers_to_write
from pipelines.exchange.mmsa_labels import SPLITS, Labels, read_labels, split_clips
from pipelines.exchange.options import ExportOptions
from pipelines.exchange.whole_file import refuse_taken, whole_file

KEYS = {"audio": "audio", "visual": "vision", "text": "text"}
PROTOCOL = 4  # of Python 3.4 and later
BATCH_CLIPS = 256
#: The pickler written in Python: the one whose way of writing names can be changed.
_Named: Any = pickle._Pickler


@dataclass(frozen=True)
class Features:
    """What one modality gives."""

    feature_set: FeatureSet
    layers: tuple[Layer, ...]
    """Summed, where there are several."""
    coverage: Coverage

    def lengths(self, clip_ids: Sequence[str]) -> NDArray[np.int64]:
        """[clips]: rows of each clip; 0 where it is empty."""
        index = self.feature_set.index
        number = index.find(clip_ids)
        row = index.column(str(self.layers[0]))[number]
        found: NDArray[np.int64] = np.where(
            (number >= 0) & (row >= 0), index.rows["n_rows"][row], 0
        )
        return found

    def array(self, clip_ids: Sequence[str]) -> NDArray[np.float32]:
        """Read [clips, T, D], zeros after each clip's last row."""
        lengths = self.lengths(clip_ids)
        _, width = layer_type(self.feature_set, self.layers[0])
        out = np.zeros((len(clip_ids), max(int(lengths.max(initial=1)), 1), width), np.float32)
        there = np.flatnonzero(lengths)
        for start in range(0, len(there), BATCH_CLIPS):
            rows = there[start : start + BATCH_CLIPS]
            ids = [clip_ids[row] for row in rows.tolist()]
            if self.feature_set.spec.level == "utterance":
                read = self.feature_set.read(self.layers, ids, np.float32)
                out[rows, 0] = read.sum(axis=1)
                continue
            runs = self.feature_set.ragged(self.layers, ids, np.float32)
            for row, run in zip(rows.tolist(), runs, strict=True):
                out[row, : len(run)] = run.sum(axis=1)
        return out


def export_mmsa(store: Store, clip_list: ClipList | None, to: Path, options: ExportOptions) -> int:
    """Write the labelled clips of a list for MMSA.

    Clips of split ``test`` that have a label are the test split; of the others, those of fold 0 are
    ``valid``. Where no test clip has a label, fold 1 is ``test``. Where the list has no folds, five are dealt
    out by class. The modality asked for, or all three; of several layers the sum. Arrays are made in memory
    one at a time.

    Returns
    -------
    int
        1 where a failed or missing clip was left out, else 0.

    Raises
    ------
    UsageError
        There are no labels, a modality or a layer is missing, a clip is that the policy does not allow for,
        or there is a file at `to`.
    """
    if options.name:
        raise UsageError("--name: the file's arrays are named text, audio and vision")
    refuse_taken(to)
    labels = read_labels(clip_list)
    ids = list(labels.clips)
    found = {modality: _features(store, modality, ids, options) for modality in _asked(options)}
    for modality, features in found.items():
        features.coverage.refuse(f"{modality}/{features.feature_set.name}", options.policy)
    holes = {
        clip_id: what
        for features in found.values()
        for clip_id, what, _ in features.coverage.holes()
        if options.policy == "skip"
    }
    splits = split_clips([clip for clip in labels.clips.values() if clip.clip_id not in holes])
    with whole_file(to) as temporary, temporary.open("wb") as file:
        _Pickler(file).dump({name: _split(clips, labels, found) for name, clips in splits.items()})
    _report(to, labels, splits, found, holes)
    return int(any(what != "empty" for what in holes.values()))


def _asked(options: ExportOptions) -> tuple[str, ...]:
    if options.modality:
        return (options.modality,)
    if options.layers or options.fingerprint:
        raise UsageError("--layers and --fingerprint are of one modality: give --modality")
    return MODALITIES


def _features(
    store: Store, modality: str, clip_ids: Sequence[str], options: ExportOptions
) -> Features:
    feature_set = store.features(
        modality, options.level or "utterance", options.model, options.recipe, options.fingerprint
    )
    one = options.layers is None and len(feature_set.layers) == 1
    layers = feature_set.layers if one else layers_to_write(feature_set, options.layers)
    return Features(feature_set, layers, Coverage.of(feature_set, layers, clip_ids))


def _split(clips: Sequence[Clip], labels: Labels, found: dict[str, Features]) -> dict[str, Any]:
    ids = [clip.clip_id for clip in clips]
    split: dict[str, Any] = {
        "id": ids,
        "raw_text": [clip.text or "" for clip in clips],
        "annotations": [labels.word[clip_id] for clip_id in ids],
        "classification_labels": np.array([labels.number[i] for i in ids], np.int64),
        "regression_labels": np.array([labels.value[i] for i in ids], np.float32),
    }
    for modality, features in found.items():
        split[KEYS[modality]] = _Later(partial(features.array, ids))
        if modality != "text":
            lengths = np.maximum(features.lengths(ids), 1)
            split[f"{KEYS[modality]}_lengths"] = lengths.tolist()
    return split


def _report(
    to: Path,
    labels: Labels,
    splits: dict[str, list[Clip]],
    found: dict[str, Features],
    holes: dict[str, str],
) -> None:
    for modality, features in found.items():
        layers = describe_layers(features.layers)
        summed = ", summed" if len(features.layers) > 1 else ""
        _say(f"{KEYS[modality]}: {modality}/{features.feature_set.name}, layers {layers}{summed}")
    counts = ", ".join(f"{len(splits[name])} {name}" for name in SPLITS)
    _say(
        f"{to}: {counts}; classes {', '.join(labels.classes)}; {labels.n_left_out} clips without a label"
    )
    if holes:
        words = ", ".join(f"{n} {what}" for what, n in Counter(holes.values()).items())
        _say(f"left out: {words}")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


@dataclass(frozen=True)
class _Later:
    """An array that is made when it is written, so that one at a time is in memory."""

    make: "partial[NDArray[Any]]"


class _Pickler(_Named):  # type: ignore[misc]
    """Writes arrays under the names that NumPy 1 and 2 both know."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, PROTOCOL)
        self.fast = True  # nothing is written twice: no array is to be kept for that

    def reducer_override(self, value: object) -> Any:
        """Make what is to be made now."""
        return value.make().__reduce__() if isinstance(value, _Later) else NotImplemented

    def save_global(self, value: Any, name: str | None = None) -> None:
        """Write the name of a class or function."""
        if getattr(value, "__module__", "") == "numpy._core.multiarray":
            self.write(pickle.GLOBAL + f"numpy.core.multiarray\n{value.__name__}\n".encode())
        else:
            super().save_global(value, name)
