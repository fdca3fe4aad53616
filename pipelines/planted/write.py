"""Writing a planted corpus: a store, a clip list, and what is known of it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from mer_store.clips.clip_list import ClipList
from mer_store.errors import UsageError
from mer_store.layers import Layer
from mer_store.spec import Spec
from mer_store.store.store import Store
from mer_store.store.writer import ClipRows, PartWriter
from pipelines.planted.corpus import FAILED_REASON, REASONS, PlantedCorpus, draw_corpus
from pipelines.planted.features import Features, features_of, frames_of
from pipelines.planted.settings import FIRST, PlantedSettings
from pipelines.planted.signal import ViewName

Views = dict[Layer, list[ViewName]]
"""What each stored layer shows: one view, or several summed."""

STORE, CLIPS, ORACLE, ABOUT = "store", "clips.csv", "oracle.json", "ABOUT.txt"
#: Baseline recipe of audio: the sum of the last four layers, under the name that recipe gives it.
SUMMED, SUMMED_LAYER, N_SUMMED = "mertools2024", "last4sum", 4
#: Settings that change no feature: they are not in the spec.
NO_NUMBERS = ("n_test", "show_test_labels", "part_clips")
TEXT = """mer-store planted corpus.

Features of no media: a known signal in known noise. Scores on it are statements about the code; they say
nothing about any real model or data. clips.csv lists the clips, store/ holds their features, oracle.json the
best weighted F1 that can be reached on the labelled clips.
"""


@dataclass(frozen=True)
class Planted:
    """A corpus on disk."""

    folder: Path
    corpus: PlantedCorpus

    @property
    def store(self) -> Path:
        """The store's folder."""
        return self.folder / STORE

    @property
    def clips(self) -> Path:
        """The clip list."""
        return self.folder / CLIPS


def make_planted(folder: Path, settings: PlantedSettings | None = None) -> Planted:
    """Write a planted corpus into `folder`; the same settings give the same bytes.

    Returns
    -------
    Planted
        With the true label of every clip.

    Raises
    ------
    UsageError
        The folder holds a corpus made with other settings, or another store or clip list.
    """
    settings = settings or PlantedSettings()
    corpus = draw_corpus(settings)
    planted = Planted(folder, corpus)
    _refuse_others(planted)
    store = Store.create(planted.store)
    (folder / ABOUT).write_text(TEXT)
    for modality in ("audio", "visual", "text"):
        views: Views = {layer: [(modality, layer)] for layer in settings.layers(modality)}
        _write(store, corpus, _spec(settings, modality), views)
    if settings.summed:
        last = settings.audio_layers[-N_SUMMED:]
        views = {SUMMED_LAYER: [("audio", layer) for layer in last]}
        _write(store, corpus, _spec(settings, "audio", recipe=SUMMED), views)
    if settings.frames:
        views = {FIRST: [("audio", settings.best_layer)]}
        _write(store, corpus, _spec(settings, "audio", level="frame"), views)
    ClipList(tuple(corpus.clips())).write(planted.clips)
    (folder / ORACLE).write_text(json.dumps(corpus.oracle(), indent=1) + "\n")
    return planted


def _refuse_others(planted: Planted) -> None:
    """Refuse a folder with files of somebody else's, or with clips of the same names and other features."""
    if not (planted.folder / ABOUT).exists():
        for path in (planted.store, planted.clips):
            if path.exists():
                raise UsageError(f"{path}: is no part of a planted corpus; choose another folder")
        return
    mine = dict(_spec(planted.corpus.settings, "visual").preprocessing)
    for feature_set in Store.create(planted.store).feature_sets():
        there = feature_set.spec.preprocessing
        if "planted" in there and dict(there) != mine:
            raise UsageError(
                f"{planted.folder}: holds a planted corpus that was made with other settings; "
                f"delete it or choose another folder"
            )


def _spec(
    settings: PlantedSettings, modality: str, level: str = "utterance", recipe: str = "default"
) -> Spec:
    model, weights = f"planted-{modality}", "sha256:planted"
    if modality == "audio" and settings.frames:  # adapters are trained in the blocks of this model
        from extractors.models.tiny import TINY, tiny_hubert

        model, weights = TINY, tiny_hubert().weights
    signal = {name: value for name, value in asdict(settings).items() if name not in NO_NUMBERS}
    return Spec(
        modality=modality,
        level=level,
        model=model,
        weights=weights,
        recipe=recipe,
        preprocessing={"planted": json.loads(json.dumps(signal))},
        pooling="mean" if level == "utterance" else "none",
        compute_dtype="float32",
        stored_dtype="float16",
        trained=False,
    )


def _write(store: Store, corpus: PlantedCorpus, spec: Spec, views: Views) -> None:
    """Write one feature set, part by part."""
    feature_set = store.ensure(spec)
    n_clips, n_part = len(corpus.clip_ids), corpus.settings.part_clips
    for start in range(0, n_clips, n_part):
        clips = range(start, min(start + n_part, n_clips))
        with PartWriter(feature_set, list(views), versions={"numpy": np.__version__}) as writer:
            rows = features_of(corpus, spec.modality, views, clips)
            for clip, row in zip(clips, rows, strict=True):
                writer.add(_clip_rows(corpus, spec, clip, row))
            writer.commit()


def _clip_rows(
    corpus: PlantedCorpus, spec: Spec, clip: int, row: Mapping[Layer, Features]
) -> ClipRows:
    """Return what clip number `clip` gives a part: rows, or why there are none."""
    clip_id, settings = corpus.clip_ids[clip], corpus.settings
    status = str(corpus.status[spec.modality][clip])
    digest = f"sha256:{sha256(f'{settings.seed} {clip_id}'.encode()).hexdigest()}"
    if status == "ok":
        values = row if spec.level == "utterance" else frames_of(row, settings, clip)
        return ClipRows(clip_id, status, digest=digest, layers=values)
    reason = REASONS[spec.modality] if status == "empty" else FAILED_REASON
    return ClipRows(clip_id, status, reason, digest)
