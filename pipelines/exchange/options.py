"""What every export and every import can be told."""

from dataclasses import dataclass
from typing import Literal

Policy = Literal["error", "skip", "zeros"]
"""What an export does with a clip that has no features by nature (no speech, no face): refuse to start,
leave it out and say so, or write zeros. A clip that failed, or that is not there, is only ever left out."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Which features are written, and how. None leaves it open."""

    modality: str | None = None
    """None is every modality that the store has."""
    level: str | None = None
    """``frame`` or ``utterance``. None is what the format takes."""
    model: str | None = None
    """As in the spec."""
    recipe: str | None = None
    """As in the spec."""
    fingerprint: str | None = None
    """Of the spec, or its first digits."""
    layers: str | None = None
    """As on the command line: ``18``, ``16-21``, ``embed``. None is what the format takes."""
    policy: Policy = "error"
    name: str | None = None
    """Name of the folder or file of these features, in place of the model's."""


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """Which features are read, and what they become. None leaves it open."""

    modality: str | None = None
    """Needed where the files do not say."""
    name: str | None = None
    """Folder of these features in the source, e.g. ``chinese-hubert-large-UTT``."""
    level: str | None = None
    """``frame`` or ``utterance``. None is what the name or the files say."""
    model: str | None = None
    """Model of the spec. None is what the name or the files say."""
    recipe: str | None = None
    """Recipe of the spec. None is what the format's features are made with."""
    layers: str | None = None
    """Layers to take, or the one layer's name where the files do not say."""
    stored_dtype: str | None = None
    """``float16`` or ``float32``. None is the narrower one that holds every value exactly, else float32."""
    part_clips: int = 1024
    """Clips to a part: the unit of commit."""
