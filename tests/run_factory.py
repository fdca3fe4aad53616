"""Makes finished runs by hand, for tests of what is said of them."""

import numpy as np
import torch

from pipelines.train.predictions import Predictions
from pipelines.train.run_folder import RunFolder
from pipelines.train.settings import read_settings
from pipelines.train.trainers import trainer_of

CONFUSION = [[7, 1], [2, 10]]
SCORES = {
    "weighted_f1_mean": 0.70125,
    "weighted_f1_std": 0.03456,
    "spread_over": "folds",
    "weighted_f1_by_lane": [0.67669, 0.72581],
    "n_repeats": 1,
    "n_folds": 2,
    "weighted_f1": 0.71,
    "f1_by_class": {"anger": 0.8235, "worry": 0.8696},
    "confusion": CONFUSION,
    "n_clips": 20,
}
FACTS = {"selection": "last", "seed": 3, "n_without_features": 4, "elapsed_s": 1.5}


def read(
    modality="audio", recipe="default", layers=(18,), trained=True, level="utterance", preprocessing=None
):  # fmt: skip
    """What a run says of a feature set that it read."""
    fingerprint = f"{modality[:3]}{recipe[:3]}"
    spec = {
        "modality": modality,
        "level": level,
        "model": "hubert",
        "recipe": recipe,
        "trained": trained,
        "preprocessing": preprocessing or {},
    }
    return {
        "modality": modality,
        "feature_set": f"hubert-{level}-{fingerprint}",
        "fingerprint": fingerprint,
        "layers": list(layers),
        "n_clips": 1234,
        "digest": fingerprint,
        "spec": spec,
    }


def make_predictions(clip_ids=("c0", "c1", "c2"), classes=("anger", "worry"), labels=(0, 1, 1)):
    """Each clip is surely of the class numbered in `labels`."""
    return Predictions(tuple(clip_ids), tuple(classes), np.eye(len(classes))[list(labels)])


def make_run(
    runs, task="probe", config=None, assignments=(), inputs=None, *, settings=None, summary=None,
    predictions=None, **changes,
):  # fmt: skip
    """Begin and finish a run; `changes` go over what its summary says."""
    if settings is None:
        own = assignments if config else ["name=made", *assignments]
        settings = read_settings(trainer_of(task).Settings, config, own)
    run = RunFolder.begin(runs, task, settings, [read()] if inputs is None else inputs)
    found = SCORES | FACTS if summary is None else summary
    run.finish(found | changes, {"w": torch.zeros(1)}, predictions or make_predictions())
    return run
