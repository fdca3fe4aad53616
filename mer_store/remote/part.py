"""One part on a remote, its arrays opened for reading by ranges."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mer_store.layers import layer_from_name
from mer_store.remote.expected import check_files
from mer_store.remote.fetch import Fetcher
from mer_store.remote.span_cache import SpanCache
from mer_store.remote.span_reader import Batch, RemoteArray, SpanReader
from mer_store.remote.spans import Span
from mer_store.store.clip_checks import CLIP_CHECKS
from mer_store.store.record import CommitRecord
from mer_store.store.shard import ArrayInfo, shard_path
from mer_store.store.shard_reader import ShardReader


class RemotePart:
    """Opens arrays of one part.

    Parameters
    ----------
    fetcher
        Of its feature set.
    record
        Of the part.
    batch
        What is asked for together.
    folder
        Where whole files are kept, at their paths.
    spans
        Where pieces of files are kept; None keeps none.
    fetched
        Called when a whole file was fetched.
    may_fetch_whole
        Whether a whole file may be fetched where that costs less than its pieces.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        record: CommitRecord,
        batch: Batch,
        folder: Path,
        spans: SpanCache | None = None,
        *,
        may_fetch_whole: bool = True,
        fetched: Callable[[], None] = lambda: None,
    ) -> None:
        check_files(record, f"{fetcher.side.label}: part {record.part_id}")
        self.record = record
        self._fetcher, self._batch, self._folder, self._spans = fetcher, batch, folder, spans
        self._may_fetch_whole, self._fetched = may_fetch_whole, fetched
        lengths = [row.n_rows for row in record.ledger if row.status == "ok"]
        self._ends = np.cumsum(lengths, dtype=np.int64)
        self._no_ends = np.zeros(0, np.int64)
        self.checks: Callable[[], NDArray[np.uint32] | None] = cache(self._read_checks)

    def array(self, name: str) -> SpanReader:
        """Return the reader of one array; nothing is fetched yet."""
        info = self.record.arrays[name]
        layer = layer_from_name(name)
        is_layer = layer in self.record.layers
        column = self.record.layers.index(layer) if is_layer else -1
        path = shard_path(name, info)
        return SpanReader(
            RemoteArray(
                f"{self._fetcher.side.label}: part {self.record.part_id}, {path}",
                info,
                partial(self._read, path),
                self._ends if is_layer else self._no_ends,
                partial(self._column, column),
                partial(self._whole, name, info, path),
                partial(self._forget, path),
            ),
            self._batch,
        )

    def _column(self, column: int) -> NDArray[np.uint32] | None:
        checks = self.checks() if column >= 0 else None
        return None if checks is None else checks[:, column]

    def _read(self, path: str, start: int, stop: int) -> bytes:
        """Return bytes of a file, from the cache where they are."""
        digest = self.record.files[path].sha256
        kept = self._spans.get(digest, start, stop) if self._spans is not None else None
        if kept is not None:
            return kept
        data = self._fetcher.side.read(self._fetcher.key, self.record, path, start, stop)
        self._fetcher.meter.moved(len(data))
        if self._spans is not None:
            self._spans.put(digest, start, stop, data)
        return data

    def _whole(self, name: str, info: ArrayInfo, path: str, fetch: bool) -> ShardReader | None:
        place = self._folder / path
        if not place.exists():
            if not fetch or not self._may_fetch_whole:
                return None
            self._fetcher.fetch(self._folder, path, self.record.files[path], self.record)
            self._fetched()
        return ShardReader(self._folder, name, info)

    def _forget(self, path: str, span: Span | None) -> None:
        """Drop a span, or a whole file, from the cache."""
        if span is None:
            (self._folder / path).unlink(missing_ok=True)
        elif self._spans is not None:
            self._spans.drop(self.record.files[path].sha256, *span)

    def _read_checks(self) -> NDArray[np.uint32] | None:
        """Fetch the checksums of all clips, once: a small file whose digest is in the record."""
        info = self.record.arrays.get(CLIP_CHECKS)
        if info is None:
            return None
        checks = np.empty(info.shape, np.uint32)
        if len(checks):
            path = shard_path(CLIP_CHECKS, info)
            self._fetcher.fetch(self._folder, path, self.record.files[path], self.record)
            ShardReader(self._folder, CLIP_CHECKS, info).read(checks, verify=True)
        return checks
