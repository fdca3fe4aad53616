"""Table 2 as markdown, CSV and HTML."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

from pipelines.report.html import Cell, Markup, Number, note, table, ticked
from pipelines.report.table2 import Filled, values_of
from pipelines.train.run_folder import RunFolder

HEAD = (
    "row",
    "weighted F1 (%)",
    "test (%)",
    "published test (%)",
    "selection",
    "clips",
    "run or next step",
)
MARK = "†"
NOTES = (
    f"{MARK} The adapters had seen the labels of all folds: here cross-validation is optimistic.",
    "Selection of the epoch: last; inner: on a part of the training folds; fold: optimistic, on the fold.",
    "Published: the paper's abstract gives the last row alone, on the test set of MER2024-SEMI.",
)


def as_markdown(rows: Sequence[Filled]) -> str:
    """Return the table as people paste it."""
    cells = [_cells(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(HEAD, *cells, strict=True)]
    lines = [_line(HEAD, widths), _line(["-" * width for width in widths], widths)]
    lines += [_line(row, widths) for row in cells]
    return "\n".join([*lines, "", *NOTES]) + "\n"


def write_csv(rows: Sequence[Filled], path: Path) -> None:
    """Write the table with all that is known of each row."""
    with path.open("w", encoding="utf-8", newline="") as file:
        values = [values_of(row) for row in rows]
        writer = csv.DictWriter(file, list(values[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(values)


def as_html(rows: Sequence[Filled], linked: Callable[[RunFolder], Markup]) -> Markup:
    """Return the table as a piece of a page.

    Parameters
    ----------
    linked
        Names a run, with a link to its page.
    """
    lines: list[list[Cell]] = []
    for row in rows:
        name, *numbers, selection, clips, _ = _cells(row)
        where = linked(row.run) if row.run else ticked(row.why)
        lines.append([name, *map(Number, numbers), selection, Number(clips), where])
    return Markup(table(HEAD, lines) + "".join(map(note, NOTES)))


def _cells(filled: Filled) -> list[str]:
    values = values_of(filled)
    score = "-"
    if values["weighted_f1_mean"] is not None:
        mark = f" {MARK}" if filled.saw_labels else ""
        score = f"{values['weighted_f1_mean']:.2f} ± {values['weighted_f1_std']:.2f}{mark}"
    numbers = [values["test_weighted_f1"], values["published_test_weighted_f1"]]
    written = ["-" if number is None else f"{number:.2f}" for number in numbers]
    clips = "-" if values["n_clips"] is None else f"{values['n_clips']:,}"
    where = filled.why or Path(values["run"]).name
    return [filled.row.name, score, *written, values["selection"] or "-", clips, where]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
    return f"| {' | '.join(padded)} |"
