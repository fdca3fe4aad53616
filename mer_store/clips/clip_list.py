"""The clip list: one row a clip, ``clip_id,path`` and optionally ``text,label,split,fold,confidence``."""

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mer_store.clips.clip import COLUMNS, SPLITS, Clip, ClipListProblem
from mer_store.clips.rows import id_problem, read_rows, write_rows
from mer_store.errors import UsageError

__all__ = ["COLUMNS", "SPLITS", "Clip", "ClipList", "ClipListProblem", "collect_clips"]


@dataclass(frozen=True)
class ClipList:
    """Clips in the order of the list, each id once, and what was wrong with the others."""

    clips: tuple[Clip, ...]
    problems: tuple[ClipListProblem, ...] = ()
    """Rows that were left out."""
    notes: tuple[str, ...] = ()
    """Things a person may want to know: unknown columns, repeated rows, counts."""
    path: Path | None = None
    """The CSV file that was read."""

    @classmethod
    def read(cls, path: Path | str) -> "ClipList":
        """Read a CSV file in UTF-8, with or without a byte order mark.

        Relative paths are relative to the file's folder. A bad row becomes a problem and stops no other;
        whether the media are there is not looked at (`missing_files` does).

        Raises
        ------
        UsageError
            There is no such file, it is not UTF-8, or its header has no ``clip_id`` or a column twice.
        """
        clips, problems, notes = read_rows(Path(path))
        return cls(clips, problems, notes, Path(path))

    def write(self, path: Path | str) -> None:
        """Write a CSV file that `read` gives back. Paths inside its folder become relative to it.

        Raises
        ------
        UsageError
            The file cannot be written.
        """
        write_rows(self.clips, Path(path))

    def missing_files(self) -> tuple[Clip, ...]:
        """Return the clips whose path is no file, listing each folder once instead of asking per file."""
        listed: dict[str, set[str]] = {}
        missing = []
        for clip in self.clips:
            if clip.path is None:
                continue
            folder, name = os.path.split(clip.path)
            if folder not in listed:
                listed[folder] = _file_names(folder)
            if name not in listed[folder]:
                missing.append(clip)
        return tuple(missing)


def collect_clips(
    clips: Iterable[Clip], notes: Iterable[str] = (), problems: Iterable[ClipListProblem] = ()
) -> ClipList:
    """Make a list of clips found in folders; ids that occur twice or fit no file name become problems."""
    by_id: defaultdict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        by_id[clip.clip_id].append(clip)
    good, bad = [], list(problems)
    for clip_id, same in by_id.items():
        if reason := id_problem(clip_id):
            bad.append(ClipListProblem(0, clip_id, reason))
        elif len(same) > 1:
            places = " and ".join(str(clip.path) for clip in same)
            bad.append(ClipListProblem(0, clip_id, f"duplicate id: {places}"))
        else:
            good.append(same[0])
    notes = [*notes, *(f"{p.clip_id or '(no id)'}: left out: {p.reason}" for p in bad)]
    return ClipList(tuple(good), tuple(bad), tuple(notes))


def require_folder(folder: Path, expected: str) -> None:
    """Raise `UsageError` unless `folder` is one; `expected` says what should be in it."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; expected {expected}")


def _file_names(folder: str) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except OSError:
        return set()
