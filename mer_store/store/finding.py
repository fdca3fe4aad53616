"""What verifying finds: one thing that is wrong, and the clips and layers that it hits."""

from dataclasses import dataclass
from typing import Literal

from mer_store.errors import shown
from mer_store.layers import Layer

Scope = Literal["part", "stray", "feature set"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    feature_set: str
    """Name of its folder; empty for what lies outside of any."""
    part_id: str
    """Empty where it is no part's."""
    path: str
    """The file, relative to the feature set's folder, or to the store's where there is no feature set."""
    problem: str
    layers: tuple[Layer, ...] = ()
    """Layers that are hit."""
    clip_ids: tuple[str, ...] = ()
    """Clips whose rows are hit."""
    scope: Scope = "part"
    """What is of no use now: the whole part, only this path (a stray), or the whole feature set."""
    modality: str = ""
    """Of the feature set: the name of the folder above it."""

    def __str__(self) -> str:
        where = f"{self.feature_set}: {self.path}" if self.feature_set else self.path
        return shown(f"{where}: {self.problem}")
