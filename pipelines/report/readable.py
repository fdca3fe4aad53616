"""The finished runs that can be read; one damaged folder does not keep the others from being shown."""

import tomllib
from pathlib import Path
from typing import Any

from mer_store.errors import MerStoreError
from pipelines.train.run_folder import CONFIG, RunFolder, list_runs


def readable_runs(runs: Path) -> tuple[list[RunFolder], list[str]]:
    """Return the finished runs in a folder, oldest first, and what is wrong with those left out."""
    sound, problems = [], []
    for run in list_runs(runs):
        try:
            _ = run.summary, run.inputs, config_of(run)
        except MerStoreError as error:
            problems.append(str(error))
        else:
            sound.append(run)
    return sound, problems


def config_of(run: RunFolder) -> dict[str, Any]:
    """Return the settings of a run as they are written, without their trainer.

    Raises
    ------
    MerStoreError
        They cannot be read.
    """
    path = run.path / CONFIG
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MerStoreError(f"{path}: cannot be read: {error}") from error
