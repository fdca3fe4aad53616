"""Rows of a clip list: reading, checking and writing them."""

import csv
import gc
import io
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

from mer_store.clips.clip import COLUMNS, SPLITS, Clip, ClipListProblem
from mer_store.clips.inside import Inside
from mer_store.errors import UsageError

MAX_ID_CHARS = 200
_MAX_ID_BYTES = 240  # a file name has 255, and exporters add a suffix
_UNSAFE_IN_ID = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|\ud800-\udfff]|^[. ]|[. ]$')

#: Cells in the order of `COLUMNS`, None for a column that the list does not have.
Row = tuple[str | None, ...]
#: Clips, rows left out, notes.
Taken = tuple[tuple[Clip, ...], tuple[ClipListProblem, ...], tuple[str, ...]]


def read_rows(path: Path) -> Taken:
    """Read a clip list; see `ClipList.read`."""
    text = _read_text(path)
    with _collector_paused():
        return _read_rows(path, text)


def _read_rows(path: Path, text: str) -> Taken:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header, notes = _header(path, next(reader, []))
    inside = Inside(path.absolute().parent)
    clips: dict[str, Clip] = {}
    lines: dict[str, int] = {}
    repeats: defaultdict[str, list[tuple[int, Clip | None]]] = defaultdict(list)
    problems: list[ClipListProblem] = []
    for line, row in _rows(reader, header, problems):
        try:
            clip = _clip(row, inside)
        except ValueError as error:
            problems.append(ClipListProblem(line, row[0] or "", str(error)))
            continue
        if clip.clip_id in clips:
            repeats[clip.clip_id].append((line, clip))
        else:
            clips[clip.clip_id], lines[clip.clip_id] = clip, line
    for problem in problems:
        if problem.clip_id in clips:
            repeats[problem.clip_id].append((problem.line, None))
    for clip_id, others in repeats.items():
        rows = sorted([line for line, _ in others] + [lines[clip_id]])
        words = f"lines {', '.join(map(str, rows[:-1]))} and {rows[-1]}"
        if all(clip == clips[clip_id] for _, clip in others):
            notes.append(f"{clip_id}: {words} are the same: taken once")
        else:
            problems.append(ClipListProblem(rows[0], clip_id, f"duplicate id: {words} differ"))
            del clips[clip_id]
    problems.sort(key=lambda problem: problem.line)
    return tuple(clips.values()), tuple(problems), tuple(notes)


def write_rows(clips: Iterable[Clip], path: Path) -> None:
    """Write a clip list, whole or not at all; see `ClipList.write`."""
    clips = tuple(clips)
    used = [name for name in COLUMNS[2:] if any(getattr(clip, name) is not None for clip in clips)]
    inside = Inside(path.absolute().parent)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["clip_id", "path", *used])
            for clip in clips:
                rest = [getattr(clip, name) for name in used]
                writer.writerow([clip.clip_id, inside.shorten(clip.path), *rest])
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error


def id_problem(clip_id: str) -> str | None:
    """Say why an id cannot be one, or None where it can."""
    if not clip_id:
        return "empty clip_id"
    if len(clip_id) > MAX_ID_CHARS or len(clip_id.encode(errors="replace")) > _MAX_ID_BYTES:
        return (
            f"clip_id of {len(clip_id)} characters: at most {MAX_ID_CHARS}, {_MAX_ID_BYTES} bytes"
        )
    if unsafe := _UNSAFE_IN_ID.search(clip_id):
        return f"clip_id {clip_id!r}: {unsafe[0]!r} there is unsafe in a file name"
    return None


def _read_text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: the clip list cannot be read: {error.strerror}") from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}:{line}: not UTF-8: save the clip list as UTF-8") from error


def _header(path: Path, names: list[str]) -> tuple[dict[str, int], list[str]]:
    """Return the position of each column, and notes."""
    names = [name.strip() for name in names]
    if "clip_id" not in names:
        raise UsageError(
            f"{path}:1: expected a header with the column clip_id (and {', '.join(COLUMNS[1:])}), "
            f"separated by commas; got {', '.join(names) or 'an empty line'}"
        )
    if twice := {name for name in names if names.count(name) > 1}:
        raise UsageError(f"{path}:1: the column {min(twice)} is there twice")
    unknown = [name for name in names if name not in COLUMNS]
    notes = [f"{path}:1: unknown columns, not used: {', '.join(unknown)}"] if unknown else []
    return {name: position for position, name in enumerate(names)}, notes


def _rows(
    reader: Any, header: dict[str, int], problems: list[ClipListProblem]
) -> Iterator[tuple[int, Row]]:
    """Give each row with the line it begins at; those that do not fit the header go to `problems`."""
    n_fields = len(header)
    pick = itemgetter(*(header.get(name, n_fields) for name in COLUMNS))
    line = reader.line_num + 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            problems.append(ClipListProblem(line, "", f"not CSV: {error}"))
            cells = []
        if cells is None:
            return
        if len(cells) == n_fields:
            yield line, pick([*cells, None])
        elif cells:
            clip_id = cells[header["clip_id"]] if header["clip_id"] < len(cells) else ""
            reason = f"expected {n_fields} fields, got {len(cells)}"
            problems.append(ClipListProblem(line, clip_id, reason))
        line = reader.line_num + 1


def _clip(row: Row, inside: Inside) -> Clip:
    clip_id, path, text, label, split, fold, confidence = row
    if reason := id_problem(clip_id or ""):
        raise ValueError(reason)
    if split and split not in SPLITS:
        raise ValueError(f"split {split!r}: expected {', '.join(SPLITS)} or nothing")
    if fold and not (fold.isascii() and fold.isdecimal()):
        raise ValueError(f"fold {fold!r}: expected a whole number from 0, or nothing")
    if confidence and not label:
        raise ValueError("a confidence without a label")
    return Clip(
        clip_id or "",
        inside.expand(path or ""),
        text,
        label or None,
        split or None,
        int(fold) if fold else None,
        _probability(confidence) if confidence else None,
    )


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError(f"confidence {text!r}: expected a number from 0 to 1, or nothing")
    return value


@contextmanager
def _collector_paused() -> Iterator[None]:
    # Half a million objects are made and none is garbage: looking for it takes a third of the time.
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
