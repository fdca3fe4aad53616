"""The trainers there are, and what each is given."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from mer_store.clips.clip_list import ClipList
from mer_store.errors import UsageError
from mer_store.store.store import Store
from pipelines.train.predictions import Predictions
from pipelines.train.run_folder import RunFolder

TRAINERS = {
    "probe": "pipelines.train.probe",
    "adapter": "pipelines.train.adapter",
    "align": "pipelines.train.align",
    "fusion": "pipelines.train.fusion",
}


@dataclass(frozen=True)
class Job:
    """What a trainer is given."""

    store: Store
    clip_list: ClipList
    settings: Any
    """Of the trainer's own ``Settings``."""
    runs: Path
    """Where its folder goes."""
    device: str = "auto"


class Trainer(Protocol):
    """A module: one file, its loop visible."""

    Settings: type[Any]

    def train(self, job: Job) -> RunFolder:
        """Train, or go on, or find it done. Returns the finished run."""

    def predict(
        self, run: RunFolder, store: Store, clip_list: ClipList, device: str
    ) -> Predictions:
        """Predict every clip of the list that has the features the run was trained on."""


def trainer_of(task: str) -> Trainer:
    """Return the trainer of a task."""
    if task not in TRAINERS:
        raise UsageError(f"{task!r}: expected one of {', '.join(TRAINERS)}")
    return cast("Trainer", import_module(TRAINERS[task]))
