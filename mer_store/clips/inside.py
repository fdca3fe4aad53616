"""Paths of a clip list: relative ones stay inside the list's folder."""

import os
from pathlib import Path
from typing import NamedTuple


class _Folder(NamedTuple):
    path: Path | None
    """None where it is outside."""
    links: frozenset[str]
    """Names of the symbolic links in it that lead outside."""


class Inside:
    """Turns paths as written into paths to open, and back, looking at each folder once.

    A relative path may lead out of the list's folder neither by ``..`` nor by a symbolic link, so that
    a list can be moved with its media, and a list from elsewhere reads nothing but its own folder unless
    it names an absolute path.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._real = os.path.realpath(folder)
        self._known: dict[str, _Folder] = {}

    def expand(self, written: str) -> Path | None:
        """Return the path to open, None for an empty one. Raises ValueError where it leads outside."""
        if not written:
            return None
        above, slash, name = written.rpartition("/")
        known = self._known.get(above + slash)
        if known is None:
            known = self._known[above + slash] = self._look_at(above + slash)
        if name in {"", ".", ".."} or "\0" in written:
            raise ValueError(f"path {written!r}: names no file")
        if known.path is None or name in known.links:
            raise ValueError(
                f"path {written!r}: path outside the folder {self._folder}; "
                "if it is meant, write it as an absolute path"
            )
        return known.path / name

    def shorten(self, path: Path | None) -> str:
        """Return the path as it is to be written: relative where `expand` gives it back."""
        if path is None:
            return ""
        full = os.path.normpath(path.absolute())
        if not _within(full, self._folder):
            return full
        written = full[len(self._folder.rstrip(os.sep)) + 1 :].replace(os.sep, "/")
        try:
            self.expand(written)
        except ValueError:
            return full
        return written

    def _look_at(self, above: str) -> _Folder:
        folder = os.path.normpath(os.path.join(self._folder, above))  # noqa: PTH118
        if os.path.isabs(above):  # noqa: PTH117
            return _Folder(Path(folder), frozenset())
        if "\0" in above or not _within(folder, self._folder) or not self._really_holds(folder):
            return _Folder(None, frozenset())
        try:
            with os.scandir(folder) as entries:
                links = [entry for entry in entries if entry.is_symlink()]
        except OSError:
            links = []
        outside = (link.name for link in links if not self._really_holds(link.path))
        return _Folder(Path(folder), frozenset(outside))

    def _really_holds(self, path: str) -> bool:
        return _within(os.path.realpath(path), self._real)


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
