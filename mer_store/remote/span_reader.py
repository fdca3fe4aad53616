"""Reading rows of one array from a remote: a request per clip and layer, each clip's checksum checked."""

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from threading import RLock

import numpy as np
from numpy.typing import NDArray

from mer_store.errors import UsageError
from mer_store.remote.spans import Span, as_rows, byte_span, merged, verify_chunks
from mer_store.store.clip_checks import check_of
from mer_store.store.shard import ArrayInfo
from mer_store.store.shard_file import Array, ChunkDamaged
from mer_store.store.shard_reader import ClipRun, Rows, ShardReader

#: What a request costs beside its bytes, in bytes that could have come meanwhile. Where ranges cost more than
#: the whole file, that is fetched, and kept in the cache. Of a part of 250 clips x 6 layers the whole files
#: came sooner from 5 % of the clips on through moto, from 10 to 20 % through rclone; this switches at 11 %.
REQUEST_BYTES = 1 << 20
#: A span that comes wrong is fetched so many times.
N_FETCHES = 3
Run = tuple[int, int]


@dataclass(frozen=True)
class RemoteArray:
    """One array of a part on a remote."""

    where: str
    """Its file, for messages."""
    info: ArrayInfo
    read: Callable[[int, int], bytes]
    """Returns the bytes from one place to before another."""
    ends: NDArray[np.int64]
    """[clips]: row after each clip's last."""
    checks: Callable[[], NDArray[np.uint32] | None]
    """Returns [clips]: the checksum of each clip's rows; None where the part has none."""
    whole: Callable[[bool], ShardReader | None]
    """Returns a reader of the whole file on this disk: fetched where told to, else only if it is there."""
    forget: Callable[[Span | None], None]
    """Drops what is kept on this disk of a span, or the whole file, that turned out to be wrong."""


class Batch:
    """What several arrays were asked for: fetched together when the first of it is needed."""

    def __init__(self, requests: ThreadPoolExecutor) -> None:
        self.requests = requests
        self._waiting: list[SpanReader] = []
        self._lock = RLock()
        self._process = os.getpid()

    def want(self, reader: "SpanReader") -> None:
        """Note that a reader has runs to fetch."""
        with self._lock:
            if reader not in self._waiting:
                self._waiting.append(reader)

    def start(self) -> None:
        """Have all fetched that was asked for.

        Raises
        ------
        UsageError
            This process was forked from the one that opened the store: its threads are not here.
        """
        self.check_process()
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for reader in waiting:
            reader.start()

    def check_process(self) -> None:
        """Refuse to fetch where the threads that do it are missing."""
        if os.getpid() != self._process:
            raise UsageError("a remote store opened before a fork: open it again in this process")


class SpanReader:
    """Reads one array of a remote part; the same methods as `ShardReader`."""

    def __init__(self, array: RemoteArray, batch: Batch) -> None:
        self.info = array.info
        self.dtype = np.dtype(array.info.dtype).newbyteorder("<")
        self._array, self._batch = array, batch
        self._wanted: dict[Run, bool] = {}
        self._coming: dict[Run, tuple[Span, Future[bytes]]] = {}
        self._file: ShardReader | None = None
        self._lock = RLock()

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return (
            np.concatenate([[0], self._array.ends[:-1]])
            if len(self._array.ends)
            else self._array.ends
        )

    # ---- asking ------------------------------------------------------------------------------------

    def prefetch(self, runs: Sequence[ClipRun], *, verify: bool) -> None:
        """Ask for runs of rows, without waiting for them."""
        if wanted := {(run.start, run.start + run.n_rows) for run in runs if run.n_rows}:
            with self._lock:
                self._wanted.update(dict.fromkeys(wanted, verify))
            self._batch.want(self)

    def start(self) -> None:
        """Send the requests for all that was asked for, or fetch the whole file where that costs less."""
        with self._lock:
            wanted, self._wanted = self._wanted, {}
            if self._whole(fetch=False) is not None:
                return
            spans = {run: self._span(run, verify=verify) for run, verify in wanted.items()}
            together = merged(spans.values())
            n_bytes = sum(end - begin for begin, end in together)
            cost = n_bytes + len(together) * REQUEST_BYTES
            if cost > self.info.shard_bytes and self._whole(fetch=True) is not None:
                return
            futures = {
                span: self._batch.requests.submit(self._array.read, *span) for span in together
            }
            starts = [begin for begin, _ in together]
            for run, (begin, _) in spans.items():
                around = together[bisect_right(starts, begin) - 1]
                self._coming[run] = around, futures[around]

    def _span(self, run: Run, *, verify: bool) -> Span:
        by_chunk = verify and self._clips(run) is None
        return byte_span(self.info, run, whole_chunks=by_chunk)

    def _clips(self, run: Run) -> tuple[int, int] | None:
        """Return the clips whose rows a run is made of; None where it cuts one, or none has a checksum."""
        if self._array.checks() is None:
            return None
        ends = self._array.ends
        first = int(np.searchsorted(ends, run[0], side="right"))
        last = int(np.searchsorted(ends, run[1], side="left"))
        if last < len(ends) and self._starts[first] == run[0] and ends[last] == run[1]:
            return first, last + 1
        return None

    # ---- reading -----------------------------------------------------------------------------------

    def copy(self, start: int, out: Array, *, verify: bool, clip: int | None = None) -> None:  # noqa: ARG002
        """Read the run of ``len(out)`` rows from `start` into `out`."""
        if len(out):
            out[...] = self._run((start, start + len(out)), verify=verify)

    def take(self, rows: Rows, *, verify: bool, clips: Rows | None = None) -> Array:
        """Return single rows [rows, ...], in the order given."""
        if not len(rows):
            return np.empty((0, *self.info.shape[1:]), self.dtype)
        wanted, back = np.unique(rows, return_inverse=True)
        self.prefetch([ClipRun(row, 1) for row in wanted.tolist()], verify=verify)
        self._batch.start()
        taken: list[Array] = []
        if self._from_file(lambda file: taken.append(file.take(rows, verify=verify, clips=clips))):
            return taken[0]
        taken = [self._run((row, row + 1), verify=verify) for row in wanted.tolist()]
        joined: Array = np.concatenate(taken)[back]
        return joined

    def _run(self, run: Run, *, verify: bool) -> Array:
        """Return the rows of a run, which may have been asked for."""
        out = np.empty((run[1] - run[0], *self.info.shape[1:]), self.dtype)
        if self._from_file(lambda file: file.copy(run[0], out, verify=verify)):
            return out
        with self._lock:
            if run not in self._coming:
                self.prefetch([ClipRun(run[0], run[1] - run[0])], verify=verify)
        self._batch.start()
        with self._lock:
            coming = self._coming.pop(run, None)
        if coming is None:  # the whole file was fetched, or somebody else took it
            return self._run(run, verify=verify)
        span, future = coming
        for _ in range(N_FETCHES - 1):
            try:
                return self._checked(run, span[0], future.result(), verify=verify)
            except ChunkDamaged:  # on the way, or in the cache
                self._array.forget(span)
                future = self._batch.requests.submit(self._array.read, *span)
        return self._checked(run, span[0], future.result(), verify=verify)

    def _checked(self, run: Run, begin: int, data: bytes, *, verify: bool) -> Array:
        """Cut a run's rows out of the bytes from `begin` on, and check them."""
        view = memoryview(data)
        if verify and (clips := self._clips(run)) is not None:
            checks = self._array.checks()
            for clip in range(*clips):
                own = (int(self._starts[clip]), int(self._array.ends[clip]))
                if (
                    checks is not None
                    and check_of(as_rows(self.info, own, begin, view)) != checks[clip]
                ):
                    raise ChunkDamaged(
                        f"{self._array.where}: what came is not what was stored", own
                    )
        elif verify:
            verify_chunks(self.info, run, begin, view, self._array.where)
        pieces = as_rows(self.info, run, begin, view)
        joined = np.frombuffer(b"".join(pieces), self.dtype)
        return joined.reshape(run[1] - run[0], *self.info.shape[1:])

    # ---- all of it ---------------------------------------------------------------------------------

    def _whole(self, *, fetch: bool) -> ShardReader | None:
        """Return the whole file on this disk, fetched where told to."""
        with self._lock:
            if self._file is None:
                if fetch:
                    self._batch.check_process()
                self._file = self._array.whole(fetch)
            return self._file

    def _from_file(self, read: Callable[[ShardReader], None], *, fetch: bool = False) -> bool:
        """Read from the whole file; tell whether it was there.

        One that is damaged, or was dropped from the cache meanwhile, is forgotten and fetched anew, once.
        """
        for is_last in (False, True):
            file = self._whole(fetch=fetch)
            if file is None:
                return False
            try:
                read(file)
            except ChunkDamaged:
                self._forget(file)
                if is_last:
                    raise
            else:
                return True
        return False

    def _forget(self, file: ShardReader) -> None:
        with self._lock:
            if self._file is file:
                self._file = None
                self._array.forget(None)

    def spans(self, n_bytes: int) -> list[tuple[int, int]]:
        """Cut the array into runs of rows, each of whole chunks of about so many bytes together."""
        found: list[tuple[int, int]] = []
        if self.info.n_rows:
            self._from_file(lambda file: found.extend(file.spans(n_bytes)), fetch=True)
        return found

    def stream(
        self, start: int = 0, stop: int | None = None, *, verify: bool
    ) -> Iterator[tuple[int, Array]]:
        """Yield (first row, rows) of a span piece by piece."""
        at, end = start, self.info.n_rows if stop is None else stop
        for is_last in (False, True):
            if at >= end or (file := self._whole(fetch=True)) is None:
                return
            try:
                for first, block in file.stream(at, end, verify=verify):
                    yield first, block
                    at = first + len(block)
            except ChunkDamaged:
                self._forget(file)
                if is_last:
                    raise

    def read(self, out: Array, start: int = 0, *, verify: bool) -> None:
        """Read the span of ``len(out)`` rows from `start` into contiguous `out`."""
        if len(out):
            self._from_file(lambda file: file.read(out, start, verify=verify), fetch=True)
