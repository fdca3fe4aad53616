"""The MER2024 data as the organisers hand them out, to a clip list."""

import os
from pathlib import Path

from mer_store.clips.clip_list import Clip, ClipList, collect_clips, require_folder
from mer_store.clips.folder import MEDIA_SUFFIXES
from mer_store.clips.words import CLASS_OF_WORD, count_note, read_column
from mer_store.errors import UsageError

LABELLED = "video-labeled"
UNLABELLED = "video-unlabeled-with-test2noise"
LABELS = "label-disdim.csv"
TRANSCRIPTS = "label-transcription.csv"


def from_mer2024(folder: Path | str) -> ClipList:
    """List the clips of ``mer2024-dataset/``.

    Labels become the paper's words (``angry`` is ``anger``). Splits are ``labelled`` and ``unlabelled``;
    clips named by a ``*test*.csv`` or ``*candidate*.csv`` in the folder are ``test``.

    Raises
    ------
    UsageError
        The folder lacks both video folders, or a CSV file in it cannot be read.
    """
    folder = Path(folder)
    require_folder(folder, f"the organisers' folder, with {LABELLED}, {UNLABELLED}, {LABELS}")
    videos = {name: scan_media(folder / name) for name in (LABELLED, UNLABELLED)}
    if not any(videos.values()):
        raise UsageError(f"{folder}: expected videos in {LABELLED} and {UNLABELLED}; found none")
    notes = [f"{folder / name}: no videos there" for name, found in videos.items() if not found]
    labels = _optional(folder / LABELS, "discrete", notes)
    texts = _optional(folder / TRANSCRIPTS, "chinese", notes)
    tests = _read_tests(folder)
    clips = [
        Clip(
            name,
            path,
            texts.get(name, "") if texts else None,
            paper_word(labels.get(name)),
            "labelled",
        )
        for name, path in videos[LABELLED]
    ] + [
        Clip(name, path, texts.get(name, "") if texts else None, None, _split(name, tests))
        for name, path in videos[UNLABELLED]
    ]
    return collect_clips(clips, [*notes, *_gaps(clips, labels, texts, tests)])


def scan_media(folder: Path) -> list[tuple[str, Path]]:
    """Return (name without suffix, path) of each media file in a folder, sorted; empty without one."""
    if not folder.is_dir():
        return []
    top = folder.absolute()
    with os.scandir(top) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    pairs = (os.path.splitext(name) for name in names)  # noqa: PTH122 - 120,000 of them
    return [(stem, top / (stem + end)) for stem, end in pairs if end.lower() in MEDIA_SUFFIXES]


def paper_word(word: str | None) -> str | None:
    """Return the paper's name of a class; other words stay as they are."""
    return CLASS_OF_WORD.get(word, word) if word else None


def _optional(path: Path, column: str, notes: list[str]) -> dict[str, str]:
    if not path.exists():
        notes.append(f"{path}: not there: no {column} column to read")
        return {}
    return read_column(path, column)


def _read_tests(folder: Path) -> set[str]:
    lists = sorted({*folder.glob("*test*.csv"), *folder.glob("*candidate*.csv")})
    return {name for path in lists for name in read_column(path, "name")}


def _split(name: str, tests: set[str]) -> str:
    return "test" if name in tests else "unlabelled"


def _gaps(
    clips: list[Clip], labels: dict[str, str], texts: dict[str, str], tests: set[str]
) -> list[str]:
    here = {clip.clip_id for clip in clips}
    known = set(CLASS_OF_WORD.values())
    unlabelled = [c.clip_id for c in clips if c.split == "labelled" and not c.label]
    odd = [c.clip_id for c in clips if c.label and c.label not in known]
    untold = [clip_id for clip_id in here if texts and clip_id not in texts]
    return [
        *count_note(f"names in {LABELS} without a video", [n for n in labels if n not in here]),
        *count_note(f"names in {TRANSCRIPTS} without a video", [n for n in texts if n not in here]),
        *count_note("names in the test list without a video", [n for n in tests if n not in here]),
        *count_note(f"videos in {LABELLED} without a label", unlabelled),
        *count_note("clips with a label that is none of the six classes", odd),
        *count_note(f"videos without a row in {TRANSCRIPTS}, taken as without speech", untold),
    ]
