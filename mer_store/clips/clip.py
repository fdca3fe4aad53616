"""One clip of a list, and one row that could not become one."""

from dataclasses import dataclass
from pathlib import Path

COLUMNS = ("clip_id", "path", "text", "label", "split", "fold", "confidence")
SPLITS = ("labelled", "unlabelled", "test")


@dataclass(frozen=True, slots=True)
class Clip:
    """One utterance's media and what is known about it."""

    clip_id: str
    path: Path | None = None
    """Absolute; None where only the text is there."""
    text: str | None = None
    """Transcript: empty for no speech, None where the list has no transcripts."""
    label: str | None = None
    """As written in the list."""
    split: str | None = None
    """One of `SPLITS`."""
    fold: int | None = None
    """Number of the fold that validates on this clip, from 0."""
    confidence: float | None = None
    """Probability of a label that was predicted; None for a label given by people."""


@dataclass(frozen=True, slots=True)
class ClipListProblem:
    """A row, or a clip, that cannot be taken as it is written."""

    line: int
    """In the CSV file, from 1; 0 where the clip comes from a folder."""
    clip_id: str
    """Empty where the row has none."""
    reason: str
