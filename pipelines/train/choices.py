"""What every trainer can be told: which features, which protocol."""

from dataclasses import dataclass
from typing import Literal

from mer_store.clips.words import CLASSES
from mer_store.errors import UsageError

Selection = Literal["last", "inner", "fold"]


@dataclass(frozen=True)
class FeatureChoice:
    """Which feature set of a modality, and which of its layers. An empty text leaves it open."""

    layers: str = ""
    """As on the command line: ``18``, ``16-21``, ``last4``, ``embed``, ``fused``."""
    recipe: str = "default"
    """``default``, ``mertools2024``, ``adapter``, ``aligned``, …"""
    model: str = ""
    fingerprint: str = ""
    """Of the spec, or its first digits."""


@dataclass(frozen=True, kw_only=True)
class ProtocolSettings:
    """How models are trained and scored: the part that all supervised trainers share."""

    name: str = ""
    """Goes into the run's folder name."""
    classes: tuple[str, ...] = CLASSES
    """Labels, in the order of the probabilities."""
    seed: int = 0
    repeats: int = 1
    """Times all folds are trained, each with a seed of its own; the spread is over these."""
    n_folds: int = 5
    folds: str = ""
    """A ``folds.csv`` to use; else the clip list's ``fold`` column, else drawn by `fold_seed`."""
    fold_seed: int = 0
    selection: Selection = "last"
    """Epoch that is reported: the last; the best on an inner part of the training folds; the best on the
    scored fold itself, as the official baseline does (optimistic)."""
    inner_share: float = 0.1
    """Share of the training folds that `selection` = inner holds out."""
    pseudo: str = ""
    """A clip list with predicted labels and their confidence, trained on beside real ones, never scored."""
    pseudo_weight: float = 1.0
    """Weight of a pseudo-labelled clip with confidence 1 against a labelled one."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        require(self.n_folds >= 2, "n_folds", "2 or more", self.n_folds)
        require(self.repeats >= 1, "repeats", "1 or more", self.repeats)
        require(0 < self.inner_share < 1, "inner_share", "between 0 and 1", self.inner_share)
        require(self.pseudo_weight >= 0, "pseudo_weight", "0 or more", self.pseudo_weight)
        unique = len(set(self.classes)) == len(self.classes) >= 2
        require(unique, "classes", "two or more different names", ", ".join(self.classes))


def require(holds: bool, name: str, expected: str, got: object) -> None:
    """Raise `UsageError` naming the setting unless the condition holds."""
    if not holds:
        raise UsageError(f"setting {name}: expected {expected}; got {got}")
