"""Pieces of remote files kept on this machine, the longest unused dropped first."""

import contextlib
import sqlite3
import threading
import time
from pathlib import Path

_SCHEMA = """
create table if not exists spans (
    file text, start integer, stop integer, data blob, used real, primary key (file, start, stop)
) without rowid
"""


class SpanCache:
    """A table of byte spans by file and place. Failures of the disk only make it forget.

    Parameters
    ----------
    path
        Of the SQLite file.
    limit
        Bytes of spans that are kept.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self._path, self._limit = path, limit
        self._local = threading.local()
        self._connecting = threading.Lock()
        self._n_new = 0

    def _database(self) -> sqlite3.Connection:
        """Return this thread's connection."""
        known: sqlite3.Connection | None = getattr(self._local, "database", None)
        if known is None:
            with (
                self._connecting
            ):  # who changes the journal's mode finds others' locks and does not wait
                known = self._connected()
            self._local.database = known
        return known

    def _connected(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=30, isolation_level=None)
        database.execute("pragma journal_mode=wal")
        database.execute("pragma synchronous=off")  # it may be lost, never wrong: spans are checked
        database.execute(_SCHEMA)
        return database

    def get(self, file: str, start: int, stop: int) -> bytes | None:
        """Return a span that was put before."""
        key = (file, start, stop)
        with contextlib.suppress(sqlite3.Error):
            found = (
                self._database()
                .execute("select data from spans where file=? and start=? and stop=?", key)
                .fetchone()
            )
            if found is not None:
                self._database().execute(
                    "update spans set used=? where file=? and start=? and stop=?",
                    (time.time(), *key),
                )
                return bytes(found[0])
        return None

    def put(self, file: str, start: int, stop: int, data: bytes) -> None:
        """Keep a span."""
        with contextlib.suppress(sqlite3.Error):
            database = self._database()
            database.execute(
                "insert or replace into spans values (?, ?, ?, ?, ?)",
                (file, start, stop, data, time.time()),
            )
            self._n_new += len(data)
            if self._n_new > self._limit // 16 or len(data) > self._limit // 16:
                self._n_new = 0
                self._shrink(database)

    def drop(self, file: str, start: int, stop: int) -> None:
        """Forget a span that turned out to be wrong."""
        with contextlib.suppress(sqlite3.Error):
            self._database().execute(
                "delete from spans where file=? and start<=? and stop>=?", (file, start, stop)
            )

    def _shrink(self, database: sqlite3.Connection) -> None:
        """Drop what was not used for longest, down to the limit."""
        database.execute(
            "delete from spans where (file, start, stop) in ("
            " select file, start, stop from (select file, start, stop, sum(stop - start)"
            "  over (order by used desc, file, start, stop) as total from spans)"
            " where total > ?)",
            (self._limit,),
        )
