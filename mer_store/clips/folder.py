"""Any folder of clips to a clip list."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mer_store.clips.clip_list import Clip, ClipList, collect_clips, require_folder
from mer_store.errors import UsageError

MEDIA_SUFFIXES = frozenset({
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".flv",
    ".wmv", ".3gp", ".ogv", ".wav", ".mp3", ".m4a", ".aac", ".flac", ".ogg", ".opus", ".wma", ".aif",
    ".aiff", ".amr",
})  # fmt: skip
_MAX_TRANSCRIPT_BYTES = 2**20


def from_folder(folder: Path | str) -> ClipList:
    """List every media file in a folder and its subfolders; hidden ones and links to folders are left.

    A clip's id is its file's name without suffix. Where names collide, it is the path below `folder` joined
    by ``__``, with the suffix if that is what tells them apart. A transcript is ``<name>.txt`` beside it.

    Raises
    ------
    UsageError
        There is no such folder, or no media file in it.
    """
    folder = Path(folder)
    require_folder(folder, "a folder of clips")
    files = sorted(_scan(os.path.abspath(folder)))  # noqa: PTH100 - strings are scanned
    media = [Path(file) for file in files if os.path.splitext(file)[1].lower() in MEDIA_SUFFIXES]  # noqa: PTH122
    if not media:
        known = ", ".join(sorted(MEDIA_SUFFIXES))
        raise UsageError(f"{folder}: no media files; looked for {known}")
    ids, notes = _ids(media, folder.absolute())
    texts = set(files)
    has_texts = any(str(path.with_suffix(".txt")) in texts for path in media)
    clips = []
    for clip_id, path in zip(ids, media, strict=True):
        text = "" if has_texts else None
        if str(beside := path.with_suffix(".txt")) in texts:
            try:
                text = _read_transcript(beside)
            except ValueError as error:
                notes.append(f"{beside}: transcript not used: {error}")
        clips.append(Clip(clip_id, path, text))
    return collect_clips(clips, notes)


def _scan(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _scan(entry.path)
            elif entry.is_file():
                yield entry.path


def _ids(media: list[Path], folder: Path) -> tuple[list[str], list[str]]:
    stems = Counter(path.stem for path in media)
    joined = Counter("__".join(path.relative_to(folder).with_suffix("").parts) for path in media)
    ids, changed = [], []
    for path in media:
        below = path.relative_to(folder)
        clip_id = path.stem
        if stems[clip_id] > 1:
            clip_id = "__".join(below.with_suffix("").parts)
            if joined[clip_id] > 1:
                clip_id = "__".join(below.parts)
            changed.append(f"{below} is {clip_id}")
        ids.append(clip_id)
    first = f"{len(changed)} files share their name with another: their ids are their paths, e.g. "
    return ids, [first + changed[0]] if changed else []


def _read_transcript(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_TRANSCRIPT_BYTES + 1)
        if len(raw) > _MAX_TRANSCRIPT_BYTES:
            raise ValueError("larger than 1 MiB")
        return " ".join(raw.decode("utf-8-sig").split())
    except UnicodeDecodeError as error:
        raise ValueError("not UTF-8") from error
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
