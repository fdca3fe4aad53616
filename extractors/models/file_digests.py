"""SHA-256 of large files, remembered between runs by path, size and modification time."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

#: Names another folder for what is remembered; the default is ``~/.cache/mer-store``.
CACHE_VARIABLE = "MER_STORE_CACHE"


def file_digest(path: Path) -> str:
    """Return ``sha256:`` and 64 hex digits of a file's bytes, following symbolic links.

    The result is remembered in the user's cache folder; where that cannot be read or written, it is
    computed again each time.
    """
    real = path.resolve()
    stat = real.stat()
    key = hashlib.sha256(f"{real}\0{stat.st_size}\0{stat.st_mtime_ns}".encode()).hexdigest()
    note = _cache_folder() / "digests" / f"{key}.json"
    if known := _recall(note):
        return known
    with real.open("rb") as file:
        digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    _remember(note, {"path": str(real), "n_bytes": stat.st_size, "digest": digest})
    return digest


def combined_digest(pieces: Iterable[str]) -> str:
    """Return one ``sha256:`` digest of several texts, in their order."""
    return f"sha256:{hashlib.sha256(json.dumps(list(pieces)).encode()).hexdigest()}"


def _cache_folder() -> Path:
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named).expanduser() if named else Path("~/.cache/mer-store").expanduser()


def _recall(note: Path) -> str | None:
    try:
        digest = json.loads(note.read_text(encoding="utf-8"))["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return digest if isinstance(digest, str) and digest.startswith("sha256:") else None


def _remember(note: Path, facts: dict[str, str | int]) -> None:
    """Write whole or not at all: several workers may find the same file at once."""
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=note.parent, suffix=".tmp")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(facts, file)
        Path(temporary).replace(note)
