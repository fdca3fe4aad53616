"""A run's folder: settings, inputs, weights, scores. Finished once ``summary.json`` is there."""

import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mer_store.errors import MerStoreError, UsageError
from pipelines.train.folds import read_folds, write_folds
from pipelines.train.predictions import FILE as PREDICTIONS
from pipelines.train.predictions import Predictions
from pipelines.train.roster import Roster, Rows
from pipelines.train.settings import read_settings, to_toml, to_values
from pipelines.versions import versions_of

if TYPE_CHECKING:
    from torch import Tensor

SUMMARY, CONFIG, FOLDS, METRICS = "summary.json", "config.toml", "folds.csv", "metrics.jsonl"
WEIGHTS, CHECKPOINT, BEGUN = "weights.safetensors", "checkpoint.safetensors", "run.json"
VERSIONED = ("mer-store", "numpy", "torch", "scikit-learn", "zarr")
DIGEST_CHARS = 10
#: Raised when a change of the trainers changes numbers: runs of before are then not taken for these.
VERSION = 1


@dataclass(frozen=True)
class RunFolder:
    """One training, named by task and a digest of settings and inputs: the same command finds it again."""

    path: Path

    @classmethod
    def begin(
        cls,
        runs: Path,
        task: str,
        settings: Any,
        inputs: Sequence[Mapping[str, Any]],
        roster: Roster | None = None,
        folds: Rows | None = None,
    ) -> "RunFolder":
        """Make the folder of a run, or find the one that the same settings and inputs made.

        Parameters
        ----------
        inputs
            What `Features.describe` says of each feature set that is read: its ``digest`` goes into the name.
        roster, folds
            Clips, labels and folds of a supervised training.
        """
        key = [task, VERSION, to_values(settings), [item["digest"] for item in inputs]]
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode())
        if roster is not None and folds is not None:
            digest.update("\n".join(roster.clip_ids).encode())
            for column in (
                roster.label,
                folds,
                roster.is_test,
                roster.is_pseudo,
                roster.confidence,
            ):
                digest.update(column.tobytes())
        name = re.sub(r"[^\w.+-]+", "_", settings.name)
        folder = "-".join(filter(None, [task, name, digest.hexdigest()[:DIGEST_CHARS]]))
        run = cls(runs / folder)
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            run._write(CONFIG, to_toml(settings))
            run._write(BEGUN, json.dumps({"task": task, "inputs": list(inputs)}, indent=1) + "\n")
            if roster is not None and folds is not None:
                write_folds(roster, folds, run.path / FOLDS)
        except OSError as error:
            raise UsageError(
                f"{run.path}: no run can be written there: {error.strerror}"
            ) from error
        return run

    @classmethod
    def open(cls, path: Path | str) -> "RunFolder":
        """Open a finished run.

        Raises
        ------
        UsageError
            There is none, or it is not finished.
        """
        run = cls(Path(path))
        if not (run.path / BEGUN).is_file():
            raise UsageError(
                f"{run.path}: not a run; expected a folder that `mer-store train` printed, "
                f"such as those in runs/"
            )
        if not run.finished:
            raise UsageError(
                f"{run.path}: not finished; the `mer-store train` command that began it goes on with it"
            )
        return run

    @property
    def finished(self) -> bool:
        """Whether all of it is there."""
        return (self.path / SUMMARY).is_file()

    @property
    def task(self) -> str:
        """``probe``, ``adapter``, ``align`` or ``fusion``."""
        return str(self._read(BEGUN)["task"])

    @property
    def inputs(self) -> list[dict[str, Any]]:
        """What `Features.describe` said of each feature set that was read."""
        inputs: list[dict[str, Any]] = self._read(BEGUN)["inputs"]
        return inputs

    @property
    def summary(self) -> dict[str, Any]:
        """Contents of ``summary.json``."""
        return self._read(SUMMARY)

    def settings(self, kind: type[Any]) -> Any:
        """Return the settings it was trained with."""
        return read_settings(kind, self.path / CONFIG)

    def metrics(self) -> list[dict[str, Any]]:
        """Return what was logged, one entry an epoch."""
        path = self.path / METRICS
        return (
            [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
        )

    def folds(self) -> dict[str, int]:
        """Return the fold of each scored clip."""
        return read_folds(self.path / FOLDS)

    def predictions(self) -> Predictions:
        """Return the predictions that were made at the end of the training."""
        return Predictions.read(self.path / PREDICTIONS)

    def weights(self) -> dict[str, "Tensor"]:
        """Return the trained tensors by name."""
        from safetensors.torch import load_file

        weights: dict[str, Tensor] = load_file(self.path / WEIGHTS)
        return weights

    def finish(
        self,
        summary: Mapping[str, Any],
        weights: Mapping[str, "Tensor"],
        predictions: Predictions | None,
    ) -> None:
        """Write weights and predictions, then the summary, last."""
        from safetensors.torch import save_file

        part = self.path / f".{WEIGHTS}.part"
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, part
        )
        part.replace(self.path / WEIGHTS)
        if predictions is not None:
            predictions.write(self.path / PREDICTIONS)
        facts = {
            "task": self.task,
            **summary,
            "inputs": self.inputs,
            "versions": versions_of(*VERSIONED),
            "finished_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        self._write(SUMMARY, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
        (self.path / CHECKPOINT).unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training the same run.

        Raises
        ------
        MerStoreError
            One does so already.
        """
        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise MerStoreError(
                    f"{self.path}: another process is training this run; wait for it, or change a setting"
                ) from error
            yield

    def _write(self, name: str, text: str) -> None:
        part = self.path / f".{name}.{os.getpid()}.part"
        part.write_text(text, encoding="utf-8")
        part.replace(self.path / name)

    def _read(self, name: str) -> dict[str, Any]:
        try:
            values: dict[str, Any] = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{self.path / name}: cannot be read: {error}") from error
        return values


def list_runs(runs: Path) -> list[RunFolder]:
    """Return the finished runs in a folder, oldest first."""
    found = [RunFolder(path.parent) for path in runs.glob(f"*/{SUMMARY}")]
    return sorted(found, key=lambda run: ((run.path / SUMMARY).stat().st_mtime_ns, run.path.name))
