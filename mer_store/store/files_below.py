"""What lies below a folder of a store that others may change meanwhile."""

import os
from collections.abc import Iterator
from pathlib import Path


def files_below(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield the relative path of everything that is no folder, links included, and its entry.

    What is gone by then, or may not be listed, counts as empty, as with `os.walk`.
    """
    return _below(str(folder), "")


def _below(folder: str, inside: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    try:
        with os.scandir(folder) as listed:
            entries = list(listed)
    except OSError:
        return
    for entry in entries:
        path = f"{inside}{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path, f"{path}/")
        else:
            yield path, entry
