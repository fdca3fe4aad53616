"""Read a clip's source once: the bytes that are hashed are the bytes that are decoded."""

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar

from extractors.contract import Blob, ClipFailed, ClipProblem, Origin

#: Files up to this size are held in memory; larger ones are hashed in pieces and decoded from disk.
MAX_HELD_BYTES = 256 * 2**20
T = TypeVar("T")


_shelf = threading.local()


@contextmanager
def reading_once() -> Iterator[None]:
    """Within it, this thread makes nothing twice that is made by `once`: whoever asks gets the same."""
    _shelf.held = []
    try:
        yield
    finally:
        _shelf.held = None


def once(key: object, make: Callable[[], T]) -> T:
    """Return what was made before under an equal key, or the same `ClipProblem`; else make it."""
    held: list[tuple[object, Any]] | None = getattr(_shelf, "held", None)
    if held is None:
        return make()
    found = next((made for known, made in held if known == key), None)
    if found is None:
        try:
            found = make()
        except ClipProblem as problem:
            found = problem
        held.append((key, found))
    if isinstance(found, ClipProblem):
        raise found
    made: T = found
    return made


def read_blob(clip_id: str, path: Path) -> Blob:
    """Read a file in one go and take the digest of its bytes; within `reading_once`, once.

    Parameters
    ----------
    clip_id
        Whose file it is.
    path
        Where it is.

    Returns
    -------
    Blob
        With `data` None where the file is larger than `MAX_HELD_BYTES`.

    Raises
    ------
    ClipFailed
        The file is missing, unreadable, empty, no regular file, or changed while it was read.
    """
    return once((clip_id, path), lambda: _read_file(clip_id, path))


def _read_file(clip_id: str, path: Path) -> Blob:
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            before = os.fstat(file.fileno())
            _require_content(before)
            digest, data = _read(file, before.st_size)
            after = os.fstat(file.fileno())
    except OSError as error:
        raise ClipFailed(_reason(error)) from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise ClipFailed("the file changed while it was read")
    return Blob(clip_id, Origin(f"sha256:{digest}", before.st_size, before.st_mtime_ns), path, data)


def text_blob(clip_id: str, text: str) -> Blob:
    """Wrap a transcript: its UTF-8 bytes, their digest, no path and no modification time."""
    data = text.encode()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return Blob(clip_id, Origin(digest, len(data), None), None, data)


def _open_without_waiting(path: str, flags: int) -> int:
    # Opening a named pipe would otherwise wait for a writer for ever.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _require_content(facts: os.stat_result) -> None:
    if stat.S_ISDIR(facts.st_mode):
        raise ClipFailed("a folder, not a file")
    if not stat.S_ISREG(facts.st_mode):
        raise ClipFailed("not a regular file")
    if facts.st_size == 0:
        raise ClipFailed("empty file (0 bytes)")


def _read(file: BufferedReader, n_bytes: int) -> tuple[str, bytes | None]:
    if n_bytes > MAX_HELD_BYTES:
        return hashlib.file_digest(file, "sha256").hexdigest(), None
    data = file.read()
    if len(data) != n_bytes:
        raise ClipFailed(f"the file changed while it was read: {len(data)} of {n_bytes} bytes came")
    return hashlib.sha256(data).hexdigest(), data


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "no permission to read the file"
    if isinstance(error, IsADirectoryError):
        return "a folder, not a file"
    return f"the file cannot be read: {error.strerror or error}"
