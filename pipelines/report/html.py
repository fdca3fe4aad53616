"""Pieces of a self-contained page. All text from outside is escaped here."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem;color:#1b2430}
h1{margin-bottom:0} h2{margin-top:2.2rem;border-bottom:1px solid #d9e2ec} img{max-width:100%}
table{border-collapse:collapse;width:100%;margin:.6rem 0} td,th{padding:.3rem .6rem;text-align:left;
border-bottom:1px solid #e6ebf0;vertical-align:top} td.n{text-align:right;font-variant-numeric:tabular-nums}
code,pre{background:#f3f6f9;border-radius:4px} code{padding:.1rem .3rem} pre{padding:.8rem;overflow:auto}
.tag{background:#e76f51;color:#fff;border-radius:4px;padding:.05rem .4rem;font-size:.8rem}
.note{color:#52606d} .big{font-size:2.2rem;font-weight:600;color:#1d3557} .wide{overflow-x:auto}
@media print{body{max-width:none;margin:0} h2{break-after:avoid} img,table{break-inside:avoid}}
"""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Cell = str | float | int
"""A cell of a table: numbers stand at the right, plain text is escaped."""


def text(value: object) -> Markup:
    """Escape, unless it is markup."""
    return value if isinstance(value, Markup) else Markup(escape(str(value)))


def tag(words: str) -> Markup:
    """Return a warning that stands out."""
    return Markup(f"<span class=tag>{escape(words)}</span>")


def note(words: str) -> Markup:
    """Return a remark."""
    return Markup(f"<p class=note>{text(words)}</p>")


def link(words: str, target: str) -> Markup:
    """Return a link to a file beside the page."""
    return Markup(f'<a href="{escape(target, quote=True)}">{escape(words)}</a>')


def table(head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Markup:
    """Return a table; no rows are said to be none."""
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    if not body:
        return note("none")
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    return Markup(f"<div class=wide><table><tr>{titles}</tr>{body}</table></div>")


def section(title: str, *parts: str) -> Markup:
    """Return a section with its title."""
    return Markup(f"<h2>{escape(title)}</h2>{''.join(map(text, parts))}")


def write_document(target: Path, title: str, sections: Iterable[str]) -> Path:
    """Write a page, whole or not at all."""
    body = "\n".join(sections)
    part = target.with_name(f".{target.name}.part")
    part.write_text(
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n'
        f"<body>{body}</body></html>\n",
        encoding="utf-8",
    )
    return part.replace(target)


def _cell(value: Cell) -> str:
    if isinstance(value, str):
        return f"<td>{text(value)}</td>"
    return (
        f"<td class=n>{value:,}</td>" if isinstance(value, int) else f"<td class=n>{value:.4g}</td>"
    )
