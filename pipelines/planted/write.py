"""Writing a planted corpus: a store, a clip list, and what is known of it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_store.clips.clip_list import ClipList
from mer_store.layers import Layer
from mer_store.spec import Spec
from mer_store.store.store import Store
from mer_store.store.writer import ClipRows, PartWriter
from pipelines.planted.corpus import FAILED_REASON, REASONS, PlantedCorpus, draw_corpus
from pipelines.planted.settings import FIRST, PlantedSettings
from pipelines.planted.signal import Floats, Projection, ViewName

STORE, CLIPS, ORACLE, ABOUT = "store", "clips.csv", "oracle.json", "ABOUT.txt"
#: Baseline recipe of audio: the sum of the last four layers, under the name that recipe gives it.
SUMMED, SUMMED_LAYER, N_SUMMED = "mertools2024", "last4sum", 4
FRAMES = (20, 60)
"""Fewest and most frames of a clip."""
TEXT = """mer-store planted corpus.

Features of no media: a known signal in known noise. Scores on it are statements about the code, not about
any real model or data. oracle.json holds the best weighted F1 that can be reached.
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
    """
    settings = settings or PlantedSettings()
    corpus = draw_corpus(settings)
    planted = Planted(folder, corpus)
    store = Store.create(planted.store)
    for modality in ("audio", "visual", "text"):
        layers = settings.layers(modality)
        _write(
            store,
            corpus,
            _spec(settings, modality),
            {layer: [(modality, layer)] for layer in layers},
        )
    last = settings.audio_layers[-N_SUMMED:]
    summed: dict[Layer, list[ViewName]] = {SUMMED_LAYER: [("audio", layer) for layer in last]}
    _write(store, corpus, _spec(settings, "audio", recipe=SUMMED), summed)
    if settings.frames:
        best: ViewName = ("audio", settings.best_layer)
        _write(store, corpus, _spec(settings, "audio", level="frame"), {FIRST: [best]})
    ClipList(tuple(corpus.clips())).write(planted.clips)
    (folder / ORACLE).write_text(json.dumps(corpus.oracle(), indent=1) + "\n")
    (folder / ABOUT).write_text(TEXT)
    return planted


def _spec(
    settings: PlantedSettings, modality: str, level: str = "utterance", recipe: str = "default"
) -> Spec:
    model, weights = f"planted-{modality}", "sha256:planted"
    if modality == "audio" and settings.frames:  # adapters are trained in the blocks of this model
        from extractors.models.tiny import TINY, tiny_hubert

        model, weights = TINY, tiny_hubert().weights
    signal = {name: value for name, value in asdict(settings).items() if name != "part_clips"}
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


def _write(
    store: Store, corpus: PlantedCorpus, spec: Spec, views: Mapping[Layer, list[ViewName]]
) -> None:
    """Write one feature set; a layer of several views is the sum of their features."""
    feature_set = store.ensure(spec)
    settings, modality = corpus.settings, spec.modality
    status = corpus.status[modality].tolist()
    for start in range(0, len(status), settings.part_clips):
        rows = np.arange(start, min(start + settings.part_clips, len(status)))
        arrays = {
            layer: sum(_features(corpus, name, rows) for name in names)
            for layer, names in views.items()
        }
        with PartWriter(feature_set, list(views), versions={"numpy": np.__version__}) as writer:
            for row, one in zip(rows.tolist(), _rows(arrays, len(rows)), strict=True):
                clip_id = corpus.clip_ids[row]
                digest = f"sha256:{sha256(f'{settings.seed} {clip_id}'.encode()).hexdigest()}"
                if status[row] == "ok":
                    values = one if spec.level == "utterance" else _frames(one, settings.seed, row)
                    writer.add(ClipRows(clip_id, "ok", digest=digest, layers=values))
                else:
                    reason = REASONS[modality] if status[row] == "empty" else FAILED_REASON
                    writer.add(ClipRows(clip_id, status[row], reason, digest))
            writer.commit()


def _features(corpus: PlantedCorpus, name: ViewName, rows: NDArray[np.int64]) -> Any:
    """Return [n, D] of one view; the noise that `shown` already holds is not added twice."""
    settings, (modality, layer) = corpus.settings, name
    key = [settings.seed, *modality.encode()]
    nuisance = settings.visual_nuisance if modality == "visual" else settings.nuisance
    drawn = Projection.draw(
        settings.width(modality), nuisance, settings.grain, np.random.default_rng(key)
    )
    rng = np.random.default_rng([*key, *str(layer).encode(), int(rows[0])])
    return drawn.features(np.nan_to_num(corpus.shown[name][rows]), rng)


def _rows(
    arrays: Mapping[Layer, NDArray[Any]], n_clips: int
) -> Iterator[dict[Layer, NDArray[Any]]]:
    for row in range(n_clips):
        yield {layer: array[row : row + 1] for layer, array in arrays.items()}


def _frames(one: dict[Layer, NDArray[Any]], seed: int, row: int) -> dict[Layer, NDArray[Any]]:
    """Return [T, D] whose mean over time is the clip's vector."""
    rng = np.random.default_rng([seed, 2, row])
    n_frames = int(rng.integers(FRAMES[0], FRAMES[1] + 1))
    frames: dict[Layer, NDArray[Any]] = {}
    for layer, vector in one.items():
        noise = rng.standard_normal((n_frames, vector.shape[1]), dtype=np.float32)
        frames[layer] = vector + (noise - noise.mean(axis=0))
    return frames


def shown_in(values: NDArray[Any], projection: Projection) -> Floats:
    """Return the sufficient statistic t [n, k] of features [n, D]."""
    shown: Floats = values.astype(np.float64) @ projection.basis.T
    return shown
