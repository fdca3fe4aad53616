"""Digests of media hashed before on this machine, so that an unchanged file is hashed only once."""

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

#: A file's absolute path, size in bytes and modification time in nanoseconds.
FileKey = tuple[str, int, int]

_log = logging.getLogger(__name__)
_ROWS_A_QUERY = 500
_WAIT_S = 5.0


class SeenMedia:
    """A small SQLite file beside nothing that matters: losing it costs time only.

    Any number of threads and processes may share one. Where it cannot be read or written, nothing is
    remembered, and that is said once.
    """

    def __init__(self, cache_path: Path) -> None:
        self._path = cache_path
        self._warned = False

    def get_many(self, keys: Iterable[FileKey]) -> dict[FileKey, str]:
        """Return the digests of those files that were seen with this size and modification time."""
        wanted = {key[0]: key for key in keys}
        found: dict[FileKey, str] = {}
        if not wanted or not self._path.exists():
            return found
        with self._forgiving(), self._open() as database:
            for paths in _batches(wanted):
                marks = ",".join("?" * len(paths))
                rows = database.execute(
                    f"SELECT path, n_bytes, mtime_ns, digest FROM seen WHERE path IN ({marks})",  # noqa: S608
                    paths,
                )
                found |= {(path, n_bytes, mtime): digest for path, n_bytes, mtime, digest in rows}
        return {key: found[key] for key in wanted.values() if key in found}

    def put_many(self, digests: Mapping[FileKey, str]) -> None:
        """Remember digests; a path's former one is forgotten."""
        if not digests:
            return
        with self._forgiving(), self._open() as database, database:
            rows = ((*key, digest) for key, digest in digests.items())
            database.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?)", rows)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._path, timeout=_WAIT_S)) as database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS seen (path TEXT PRIMARY KEY, n_bytes INTEGER, "
                "mtime_ns INTEGER, digest TEXT) WITHOUT ROWID"
            )
            yield database

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if not self._warned:
                _log.warning("%s: digests of media are not remembered: %s", self._path, error)
            self._warned = True


def _batches(paths: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(paths)
    while batch := list(islice(rest, _ROWS_A_QUERY)):
        yield batch
