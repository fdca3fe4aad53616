"""Reads a page as a browser does, and complains where a browser would have to guess."""

import re
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """What a page says.

    Attributes
    ----------
    words
        All its text.
    tables
        [tables][rows][cells], as text.
    """

    def __init__(self, path) -> None:
        super().__init__(convert_charrefs=True)
        self.source = path.read_text(encoding="utf-8")
        self.open, self.tags, self.problems = [], [], []
        self.sources, self.links, self.tables, self._text = [], [], [], []
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if len(values) != len(attributes):
            self.problems.append(f"{tag} has an attribute twice: {attributes}")
        self.tags.append(tag)
        self.sources += [values["src"]] if "src" in values else []
        self.links += [values["href"]] if "href" in values else []
        self.problems += [f"{tag} {name}" for name in values if name.startswith("on")]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in {"td", "th"}:
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> closes what is not open")

    def handle_data(self, data):
        if self.open[-1:] == ["style"]:
            return
        self._text.append(data)
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    @property
    def words(self):
        return re.sub(r"\s+", " ", " ".join(self._text))

    def table(self, *head):
        """Return the rows below the head that begins so."""
        [rows] = [rows for rows in self.tables if rows[0][: len(head)] == list(head)]
        return rows[1:]


def read_page(path):
    """Return the page, which must be whole, and show nothing that is not inside it."""
    page = Page(path)
    assert page.problems == []
    assert page.open == []
    assert page.tags[0] == "html"
    assert "script" not in page.tags
    assert all(source.startswith("data:image/") for source in page.sources)
    assert not re.search(r"url\(|@import", page.source)
    assert "<img" not in page.words
    return page
