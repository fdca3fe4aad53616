"""Predictions: a class and a probability per class for every clip that has features."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mer_store.errors import UsageError

FILE = "predictions.csv"


@dataclass(frozen=True)
class Predictions:
    """One row a clip."""

    clip_ids: tuple[str, ...]
    classes: tuple[str, ...]
    probability: NDArray[np.float64]
    """[clips, C], rows sum to 1."""

    @property
    def labels(self) -> list[str]:
        """The likeliest class of each clip."""
        return [self.classes[number] for number in self.probability.argmax(axis=1).tolist()]

    @property
    def confidence(self) -> NDArray[np.float64]:
        """[clips]: probability of the likeliest class."""
        best: NDArray[np.float64] = self.probability.max(axis=1)
        return best

    def write(self, path: Path) -> None:
        """Write ``clip_id,label`` and one probability a class."""
        part = path.with_name(f".{path.name}.part")
        with part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["clip_id", "label", *self.classes])
            for clip_id, label, row in zip(
                self.clip_ids, self.labels, self.probability.tolist(), strict=True
            ):
                writer.writerow([clip_id, label, *(f"{value:.6f}" for value in row)])
        part.replace(path)

    @classmethod
    def read(cls, path: Path) -> "Predictions":
        """Read what `write` wrote."""
        try:
            with path.open(encoding="utf-8", newline="") as file:
                header, *rows = csv.reader(file)
                values = np.array([row[2:] for row in rows], np.float64)
                classes = tuple(header[2:])
                return cls(tuple(row[0] for row in rows), classes, values.reshape(-1, len(classes)))
        except (OSError, ValueError, IndexError) as error:
            raise UsageError(f"{path}: expected predictions of a run: {error}") from error


def from_logits(
    clip_ids: Sequence[str], classes: tuple[str, ...], logits: NDArray[np.floating]
) -> Predictions:
    """Return predictions of the clips whose logits [clips, C] are known; rows of NaN are left out."""
    known = np.flatnonzero(np.isfinite(logits).all(axis=1))
    shifted = logits[known].astype(np.float64)
    shifted = np.exp(shifted - shifted.max(axis=1, keepdims=True))
    return Predictions(
        tuple(clip_ids[row] for row in known.tolist()),
        classes,
        shifted / shifted.sum(axis=1, keepdims=True),
    )
