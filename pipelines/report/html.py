"""Pieces of a self-contained page. All text from outside is escaped here."""

import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from pipelines.pictures import embed

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:1080px;margin:2rem auto;padding:0 1rem;color:#1b2430}
h1{margin:0;overflow-wrap:anywhere} h2{margin:2.4rem 0 .6rem;border-bottom:1px solid #d9e2ec}
a{color:#1d5fa8} img{max-width:100%;display:block} table{border-collapse:collapse;margin:.6rem 0}
td,th{padding:.3rem .8rem .3rem 0;text-align:left;border-bottom:1px solid #e6ebf0;vertical-align:top}
th{font-size:.85rem;color:#52606d;vertical-align:bottom} td:last-child,th:last-child{padding-right:0}
.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
code,pre{background:#f3f6f9;border-radius:4px;font-size:.85rem} code{padding:.1rem .3rem}
td code,td a{white-space:nowrap} pre{padding:.8rem;overflow:auto;margin:.6rem 0}
.tag{background:#c8512f;color:#fff;border-radius:4px;padding:.05rem .4rem;font-size:.8rem;white-space:nowrap}
.note{color:#52606d;margin:.4rem 0} .wide{overflow-x:auto}
.cards{display:flex;flex-wrap:wrap;gap:1rem;margin:1.2rem 0}
.cards div{background:#f3f6f9;border-radius:8px;padding:.7rem 1.1rem;max-width:24rem}
.cards b{display:block;font-size:2rem;line-height:1.2;color:#1d3557;white-space:nowrap}
.pair{display:flex;flex-wrap:wrap;gap:1rem 3rem;align-items:flex-start} .pair>*{min-width:0;max-width:100%}
.key{margin:.6rem 0;font-size:.85rem} .key span{margin-right:1.2rem} .key i{display:inline-block;width:.8rem;
height:.8rem;border-radius:2px;margin-right:.35rem;vertical-align:-.05rem}
.bars{margin-bottom:1rem;display:grid;grid-template-columns:max-content 1fr;gap:.35rem .9rem;
align-items:center;font-size:.9rem}
.bar{display:flex;height:1.5rem;line-height:1.5rem}
.bar span{min-width:3px;overflow:hidden;text-align:center;font-size:.8rem}
.heat{border-collapse:separate;border-spacing:2px} .heat td,.heat th{border:0;padding:.25rem .5rem}
.heat td{text-align:center;min-width:3.2rem;line-height:1.2} .heat small{display:block;opacity:.75}
.heat caption{text-align:left;font-size:.85rem;color:#52606d} .heat th{vertical-align:middle}
@media print{body{max-width:none;margin:0} h2{break-after:avoid} img,table,.bars,.cards{break-inside:avoid}
*{print-color-adjust:exact}}
"""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


class Number(str):
    """A number as it is written: ``88.90 ± 0.31``. Stands at the right of its cell."""

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
    """Return a remark; what stands in backticks is a command."""
    return Markup(f"<p class=note>{ticked(words)}</p>")


def code(words: str) -> Markup:
    """Return a name or command that is to be copied."""
    return Markup(f"<code>{escape(words)}</code>")


def ticked(words: str) -> Markup:
    """Return text whose backticks mark what is to be copied."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", text(words)))


def link(words: str, target: str) -> Markup:
    """Return a link to a file beside the page."""
    return Markup(f'<a href="{escape(target, quote=True)}">{escape(words)}</a>')


def picture(data: bytes, caption: str) -> Markup:
    """Return a picture that is part of the page."""
    return Markup(embed(data, caption))


def cards(items: Iterable[tuple[str, str]]) -> Markup:
    """Return figures that are seen first: the number, and what it is."""
    body = "".join(f"<div><b>{text(number)}</b>{text(words)}</div>" for number, words in items)
    return Markup(f"<div class=cards>{body}</div>")


def pair(*parts: str) -> Markup:
    """Return parts side by side where there is room."""
    return Markup(f"<div class=pair>{''.join(f'<div>{text(part)}</div>' for part in parts)}</div>")


def table(head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Markup:
    """Return a table; no rows are said to be none."""
    rows = list(rows)
    if not rows:
        return note("none")
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    titles = "".join(
        f"<th{_kind(cell)}>{escape(title)}</th>" for title, cell in zip(head, rows[0], strict=True)
    )
    return Markup(f"<div class=wide><table><tr>{titles}</tr>{body}</table></div>")


def section(title: str, *parts: str) -> Markup:
    """Return a section with its title."""
    return Markup(f"<h2>{escape(title)}</h2>{''.join(map(text, parts))}")


def document(title: str, sections: Iterable[str], style: str = "") -> str:
    """Return a page; `style` is added to that of all pages."""
    body = "\n".join(sections)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}{style}</style></head>\n'
        f"<body>{body}</body></html>\n"
    )


def write_document(target: Path, title: str, sections: Iterable[str]) -> Path:
    """Write a page, whole or not at all."""
    part = target.with_name(f".{target.name}.part")
    part.write_text(document(title, sections), encoding="utf-8")
    return part.replace(target)


def _cell(value: Cell) -> str:
    return f"<td{_kind(value)}>{text(_written(value))}</td>"


def _kind(value: Cell) -> str:
    return "" if isinstance(value, str) and not isinstance(value, Number) else " class=n"


def _written(value: Cell) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
