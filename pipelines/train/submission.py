"""What predictions become: a submission joined by name, or a clip list of pseudo-labels."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mer_store.clips.clip_list import ClipList
from mer_store.clips.words import WORD_OF_CLASS
from mer_store.errors import UsageError
from pipelines.train.predictions import Predictions

N_NAMED = 5


def write_submission(
    predictions: Predictions, clip_list: ClipList, path: Path, candidates: Path | None = None
) -> tuple[int, list[str]]:
    """Write ``name,discrete`` in the organisers' words; return how many rows, and the names left out.

    Rows are the candidates, in their order; without candidates the clips of split ``test``, else all
    without a label, but those that have no prediction. Names are joined, never counted on to be in the
    same order.

    Raises
    ------
    UsageError
        Candidates that are not in the clip list, are named twice, or have no prediction. Lists them.
    """
    label = dict(zip(predictions.clip_ids, predictions.labels, strict=True))
    left_out: list[str] = []
    if candidates:
        names = read_candidates(candidates)
    else:
        every = _default_names(clip_list)
        names = [name for name in every if name in label]
        left_out = [name for name in every if name not in label]
    listed = {clip.clip_id for clip in clip_list.clips}
    problems = [
        _named("named twice", [name for name, number in Counter(names).items() if number > 1]),
        _named("extra: not in the clip list", [name for name in names if name not in listed]),
        _named(
            "missing: no prediction, for want of features (`mer-store show CLIP` says why)",
            [name for name in names if name in listed and name not in label],
        ),
    ]
    if any(problems):
        where = candidates or clip_list.path or "the clip list"
        raise UsageError(f"{where}: no submission written: {'; '.join(filter(None, problems))}")
    _write(path, [(name, WORD_OF_CLASS.get(label[name], label[name])) for name in names])
    return len(names), left_out


def read_candidates(path: Path) -> list[str]:
    """Read the names to be predicted: the column ``name`` of a CSV file, or its only column."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: expected a CSV file of candidates: {error}") from error
    header = [cell.strip() for cell in rows[0]] if rows else []
    if "name" in header:
        column = header.index("name")
        short = [number for number, row in enumerate(rows, 1) if len(row) <= column]
        if short:
            raise UsageError(f"{path}:{short[0]}: expected {len(header)} fields")
        return [row[column].strip() for row in rows[1:]]
    if len(header) == 1:
        return [row[0].strip() for row in rows]
    raise UsageError(
        f"{path}:1: expected the column name; got {', '.join(header) or 'an empty file'}"
    )


def pseudo_labelled(
    predictions: Predictions, clip_list: ClipList, min_confidence: float
) -> ClipList:
    """Return the clips without a label that are predicted with `min_confidence` or more, labelled so.

    Clips of split ``test`` are left out. `confidence` marks each label as predicted: training takes such a
    list beside the real labels (``--set pseudo=new.csv``) and never scores on it.
    """
    sure = {
        clip_id: (label, confidence)
        for clip_id, label, confidence in zip(
            predictions.clip_ids, predictions.labels, predictions.confidence.tolist(), strict=True
        )
        if confidence >= min_confidence
    }
    clips = [
        replace(
            clip, label=sure[clip.clip_id][0], confidence=round(sure[clip.clip_id][1], 6), fold=None
        )
        for clip in clip_list.clips
        if clip.clip_id in sure
        and clip.split != "test"
        and (not clip.label or clip.confidence is not None)
    ]
    return ClipList(tuple(clips))


def _default_names(clip_list: ClipList) -> list[str]:
    tested = [clip.clip_id for clip in clip_list.clips if clip.split == "test"]
    names = tested or [clip.clip_id for clip in clip_list.clips if not clip.label]
    if not names:
        raise UsageError(
            f"{clip_list.path}: no clip of split test and none without a label: nothing to submit; "
            f"pass --candidates"
        )
    return names


def _named(what: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - N_NAMED} more" if len(names) > N_NAMED else ""
    return f"{len(names)} {what}: {', '.join(names[:N_NAMED])}{more}"


def _write(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["name", "discrete"])
            writer.writerows(rows)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error
