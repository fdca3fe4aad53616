"""Table 2 as markdown, CSV and HTML."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipelines.report.html import Cell, Markup, Number, note, table, ticked
from pipelines.report.table2 import Filled, values_of
from pipelines.train.run_folder import RunFolder

HEAD = (
    "row",
    "features",
    "weighted F1 (%)",
    "test (%)",
    "published test (%)",
    "selection",
    "clips",
    "run or next step",
)
#: What has to be known of a row's score, by the mark it carries.
MARKS = {
    "†": "The adapters had seen the labels of all folds: here cross-validation is optimistic.",
    "‡": "Features of no trained model, or planted ones: the score is a statement about the code.",
    "§": "Trained with settings other than those of the bundled config.",
}
NOTES = (
    "Selection of the epoch: last; inner: on a part of the training folds; fold: optimistic, on the fold.",
    "Published: the paper's abstract gives the last row alone, on the test set of MER2024-SEMI.",
)


def as_markdown(rows: Sequence[Filled]) -> str:
    """Return the table as people paste it."""
    cells = [[cell.replace("|", r"\|") for cell in _cells(row)] for row in rows]
    widths = [max(map(len, column)) for column in zip(HEAD, *cells, strict=True)]
    lines = [_line(HEAD, widths), _line(["-" * width for width in widths], widths)]
    lines += [_line(row, widths) for row in cells]
    return "\n".join([*lines, "", *_notes(rows)]) + "\n"


def write_csv(rows: Sequence[Filled], path: Path) -> None:
    """Write the table with all that is known of each row."""
    values = [values_of(row) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(values[0])
        writer.writerows([_plain(value) for value in row.values()] for row in values)


def as_html(rows: Sequence[Filled], linked: Callable[[RunFolder], Markup]) -> Markup:
    """Return the table as a piece of a page.

    Parameters
    ----------
    linked
        Names a run, with a link to its page.
    """
    lines: list[list[Cell]] = []
    for row in rows:
        name, features, *numbers, selection, clips, _ = _cells(row)
        where = linked(row.run) if row.run else ticked(row.why)
        lines.append([name, features, *map(Number, numbers), selection, Number(clips), where])
    return Markup(table(HEAD, lines) + "".join(map(note, _notes(rows))))


def _cells(filled: Filled) -> list[str]:
    values = values_of(filled)
    score = "-"
    if values["weighted_f1_mean"] is not None:
        score = f"{values['weighted_f1_mean']:.2f} ± {values['weighted_f1_std']:.2f}"
    score = " ".join(filter(None, [score, "".join(_marks(filled))]))
    numbers = [values["test_weighted_f1"], values["published_test_weighted_f1"]]
    written = ["-" if number is None else f"{number:.2f}" for number in numbers]
    clips = "-" if values["n_clips"] is None else f"{values['n_clips']:,}"
    where = filled.why or Path(values["run"]).name
    return [
        filled.row.name, filled.features, score, *written, values["selection"] or "-", clips, where,
    ]  # fmt: skip


def _marks(filled: Filled) -> list[str]:
    """Return the marks of a row, in the order of `MARKS`."""
    carried = (filled.saw_labels, filled.untrained, filled.other_settings)
    return [mark for mark, there in zip(MARKS, carried, strict=True) if there]


def _notes(rows: Sequence[Filled]) -> list[str]:
    """Return what the marks mean that some row carries, then what holds for all rows."""
    carried = {mark for row in rows for mark in _marks(row)}
    return [f"{mark} {words}" for mark, words in MARKS.items() if mark in carried] + list(NOTES)


def _plain(value: Any) -> str:
    """Write a value as spreadsheets read it; scores as the field writes them."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.2f}" if isinstance(value, float) else "" if value is None else str(value)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
    return f"| {' | '.join(padded)} |"
