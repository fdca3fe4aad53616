"""Bars and shaded tables that the page draws itself: any text in any script, sharp at any size."""

from collections.abc import Mapping, Sequence
from html import escape

from pipelines.pictures import BAD, GOOD, INK, PALE, WARM
from pipelines.report.html import Markup, text

PALETTE = (INK, GOOD, "#b5651d", "#7b6d8d", "#577590", BAD)
OUTCOMES = {"ok": GOOD, "empty": WARM, "failed": BAD, "missing": PALE}
LEAST_LABELLED = 0.05
"""Share of a bar that has room for its number."""


def bars(
    rows: Sequence[tuple[str, Mapping[str, float]]], colours: Mapping[str, str], form: str = ",.0f"
) -> Markup:
    """Return one bar a row, its parts side by side; the longest fills the width.

    Parameters
    ----------
    rows
        A name, and the size of each part.
    form
        How a number is written.
    """
    longest = max((sum(parts.values()) for _, parts in rows), default=0.0) or 1.0
    key = "".join(
        f'<span><i style="background:{colour}"></i>{escape(part)}</span>'
        for part, colour in colours.items()
    )
    lines = "".join(
        f"<div>{text(name)}</div><div class=bar>{_parts(parts, colours, longest, form)}</div>"
        for name, parts in rows
    )
    return Markup(f"<div class=key>{key}</div><div class=bars>{lines}</div>")


def colours_of(names: Sequence[str]) -> dict[str, str]:
    """Return a colour for each name."""
    return {name: PALETTE[number % len(PALETTE)] for number, name in enumerate(names)}


def confusion_table(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> Markup:
    """Return counts [labels][predictions], shaded by their share of the row."""
    head = "".join(f"<th class=turn><span>{escape(name)}</span></th>" for name in classes)
    body = "".join(
        f"<tr><th>{escape(name)}</th>{''.join(_shaded(count, sum(row)) for count in row)}</tr>"
        for name, row in zip(classes, confusion, strict=True)
    )
    return Markup(
        f"<div class=wide><table class=heat><caption>label ↓ &nbsp; predicted →</caption>"
        f"<tr><td></td>{head}</tr>{body}</table></div>"
    )


def _parts(
    parts: Mapping[str, float], colours: Mapping[str, str], longest: float, form: str
) -> str:
    written = []
    for part, value in parts.items():
        share = value / longest
        if share <= 0:
            continue
        number = format(value, form)
        ink = INK if colours[part] in {WARM, PALE} else "#fff"
        written.append(
            f'<span style="width:{100 * share:.3f}%;background:{colours[part]};color:{ink}" '
            f'title="{escape(part, quote=True)} {number}">{number if share >= LEAST_LABELLED else ""}</span>'
        )
    return "".join(written)


def _shaded(count: int, total: int) -> str:
    share = count / max(total, 1)
    colour = "#fff" if share > 0.5 else INK
    return (
        f'<td style="background:rgba(29,53,87,{share:.3f});color:{colour}">{count:,}'
        f"<small>{100 * share:.0f} %</small></td>"
    )
