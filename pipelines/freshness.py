"""Freshness: whether the bytes a clip was extracted from are still the bytes it has."""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from extractors.contract import ClipProblem, Extractor, Source
from mer_store.clips.seen import SeenMedia
from mer_store.store.ledger import Ledger
from pipelines.lines import line_options

REMEMBER_EVERY = 256


@dataclass(frozen=True)
class FileFacts:
    """Size and modification time of each clip's file; -1 where there is none."""

    paths: tuple[Path | None, ...]
    n_bytes: NDArray[np.int64]
    mtime_ns: NDArray[np.int64]

    @property
    def there(self) -> NDArray[np.bool_]:
        """Whether the file exists."""
        return self.n_bytes >= 0


def stat_files(extractor: Extractor, sources: Sequence[Source]) -> FileFacts:
    """Look at every clip's file without reading it."""
    paths = tuple(extractor.path(source) for source in sources)
    facts = np.full((len(sources), 2), -1, dtype=np.int64)
    for row, path in enumerate(paths):
        if path is not None:
            try:
                status = path.stat()
            except (OSError, ValueError):  # ValueError: no file can have such a name
                continue
            facts[row] = status.st_size, status.st_mtime_ns
    return FileFacts(paths, facts[:, 0], facts[:, 1])


class Freshness:
    """Tells which clips of a ledger are stale, reading only files whose size or time has changed.

    A clip whose media are not here (a store that was pulled) cannot be checked and counts as fresh.
    """

    def __init__(
        self, extractor: Extractor, sources: Sequence[Source], seen: SeenMedia, n_threads: int = 4
    ) -> None:
        self._extractor = extractor
        self._sources = sources
        self._seen = seen
        self._n_threads = n_threads
        self.files = stat_files(extractor, sources)
        self._digests: dict[int, str | None] = {}

    def stale(self, ledger: Ledger) -> NDArray[np.bool_]:
        """Return [clips]: True where the recorded bytes are no longer the clip's."""
        recorded = ledger.attempt >= 0
        is_file = np.array([path is not None for path in self.files.paths])
        same_stat = (ledger.n_bytes == self.files.n_bytes) & (
            ledger.mtime_ns == self.files.mtime_ns
        )
        resized = is_file & self.files.there & (ledger.n_bytes != self.files.n_bytes)
        unsure = recorded & (~is_file | (self.files.there & ~same_stat & ~resized))
        stale: NDArray[np.bool_] = recorded & resized
        rows = np.flatnonzero(unsure)
        self._find_digests(rows)
        for row in rows:
            digest = self._digests[int(row)]
            stale[row] = digest is not None and digest != ledger.digest[row]
        return stale

    def _find_digests(self, rows: NDArray[np.intp]) -> None:
        """Fill in the digests of `rows`: remembered where the file was hashed before, else by reading it."""
        rows_left = [int(row) for row in rows if int(row) not in self._digests]
        keys = {row: key for row in rows_left if (key := self._key(row)) is not None}
        known = self._seen.get_many(keys.values())
        self._digests |= {row: known[key] for row, key in keys.items() if key in known}
        rows_left = [row for row in rows_left if row not in self._digests]
        pool = ThreadPoolExecutor(self._n_threads)
        bar = tqdm(
            desc="checking media",
            total=len(rows_left),
            unit=" clips",
            disable=not (keys and rows_left),
            leave=False,
            **line_options(sys.stderr),
        )
        try:
            for start in range(
                0, len(rows_left), REMEMBER_EVERY
            ):  # Ctrl-C loses no more than these
                some = rows_left[start : start + REMEMBER_EVERY]
                found = dict(zip(some, pool.map(self._hash, some), strict=True))
                self._digests |= found
                self._seen.put_many(
                    {keys[row]: digest for row, digest in found.items() if row in keys and digest}
                )
                bar.update(len(some))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            bar.close()

    def _key(self, row: int) -> tuple[str, int, int] | None:
        path = self.files.paths[row]
        if path is None:
            return None
        text = (
            str(path.absolute()).encode("utf-8", "backslashreplace").decode()
        )  # SQLite takes no other
        return text, int(self.files.n_bytes[row]), int(self.files.mtime_ns[row])

    def _hash(self, row: int) -> str | None:
        try:
            return self._extractor.open(self._sources[row]).origin.digest
        except ClipProblem:
            return None
