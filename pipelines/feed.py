"""The feed: reading and decoding in threads, a bounded way ahead of the model."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Condition

from extractors.contract import ClipFailed, ClipProblem, Extractor, Loaded, Origin, Source
from extractors.media.blob import reading_once

#: Decoded clips waiting, at most; and their size, in batches of the extractor.
MAX_CLIPS_AHEAD = 1024
MAX_BATCHES_AHEAD = 4
POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Fetched:
    """One clip read and decoded, or the reason why not."""

    source: Source
    origin: Origin | None
    """None where not even the bytes could be read."""
    loaded: Loaded | ClipProblem
    reading_s: float = 0.0
    decoding_s: float = 0.0


def fetch_all(extractors: Sequence[Extractor], source: Source) -> tuple[Fetched, ...]:
    """Decode one clip for each extractor, its file read once. One that fails does not touch the others."""
    with reading_once():
        return tuple(fetch(extractor, source) for extractor in extractors)


def fetch(extractor: Extractor, source: Source) -> Fetched:
    """Read and decode one clip. Whatever a decoder raises is that clip's outcome, never the run's end."""
    origin = None
    began_s = time.perf_counter()
    try:
        blob = extractor.open(source)
        origin = blob.origin
        read_s = time.perf_counter()
        loaded = extractor.load(blob)
        return Fetched(source, origin, loaded, read_s - began_s, time.perf_counter() - read_s)
    except ClipProblem as problem:
        return Fetched(source, origin, problem)
    except Exception as error:  # noqa: BLE001 - media are hostile input; the other clips go on
        return Fetched(source, origin, _undecodable(error))


def _undecodable(error: BaseException) -> ClipFailed:
    return ClipFailed(f"cannot decode: {type(error).__name__}: {one_line(error)}")


def one_line(error: BaseException) -> str:
    """Squeeze an error's text into one line of the ledger."""
    return " ".join(str(error).split())[:300]


def feed(
    extractors: Sequence[Extractor],
    sources: Sequence[Source],
    n_threads: int,
    limits: Sequence[int],
    stopped: Callable[[], bool] = lambda: False,
) -> Generator[tuple[Fetched, ...], None, None]:
    """Decode `sources` in `n_threads`, in order, staying a bounded way ahead of whoever consumes.

    Yields what each of `extractors` is to be given, `limits` being the sizes of their batches. Ends early
    once `stopped` says so, even while a long clip is being decoded.
    """
    ahead = _Ahead(extractors, sources, limits)
    pool = ThreadPoolExecutor(n_threads, thread_name_prefix="decode")
    try:
        for _ in range(min(n_threads, len(sources))):
            pool.submit(ahead.decode)
        for row in range(len(sources)):
            while (item := ahead.take(row, POLL_S)) is None:
                if stopped():
                    return
            yield item
    finally:
        ahead.close()
        pool.shutdown(wait=False)


class _Ahead:
    """What is decoded and not yet consumed: the decoding threads rest while it is large.

    It holds so many batches and, beyond that, a clip for each thread at most: how large a clip is, is known
    only when it is decoded.
    """

    def __init__(
        self, extractors: Sequence[Extractor], sources: Sequence[Source], limits: Sequence[int]
    ) -> None:
        self._extractors = extractors
        self._sources = sources
        self._limits = limits
        self._changed = Condition()
        self._ready: dict[int, tuple[Fetched, ...]] = {}
        self._n_batches = 0.0
        self._n_begun = 0
        self._n_taken = 0
        self._closed = False

    def decode(self) -> None:
        """Decode clip after clip until there is none left. What each thread does."""
        while (row := self._begin()) is not None:
            source = self._sources[row]
            try:
                item = fetch_all(self._extractors, source)
            except BaseException as error:  # noqa: BLE001 - what a thread raises, nobody hears
                problem = Fetched(source, None, _undecodable(error))
                item = (problem,) * len(self._extractors)
            with self._changed:
                self._ready[row] = item
                self._n_batches += n_batches(item, self._limits)
                self._changed.notify_all()
            del item

    def _begin(self) -> int | None:
        with self._changed:
            self._changed.wait_for(self._may_begin)
            if self._closed or self._n_begun == len(self._sources):
                return None
            self._n_begun += 1
            return self._n_begun - 1

    def _may_begin(self) -> bool:
        over = self._closed or self._n_begun == len(self._sources)
        n_ahead = self._n_begun - self._n_taken
        return over or (self._n_batches < MAX_BATCHES_AHEAD and n_ahead < MAX_CLIPS_AHEAD)

    def take(self, row: int, timeout_s: float) -> tuple[Fetched, ...] | None:
        """Return the clip in `row`, None where it is not decoded in time. Rows are taken in order."""
        with self._changed:
            if not self._changed.wait_for(lambda: row in self._ready, timeout_s):
                return None
            item = self._ready.pop(row)
            self._n_batches -= n_batches(item, self._limits)
            self._n_taken += 1
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Let the threads end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def n_batches(item: Sequence[Fetched], limits: Sequence[int]) -> float:
    """Return how many batches a clip fills, over all extractors: what it takes of the memory for input."""
    return sum(
        one.loaded.size / limit
        for one, limit in zip(item, limits, strict=True)
        if isinstance(one.loaded, Loaded)
    )


def windows(
    fetched: Iterator[tuple[Fetched, ...]],
    limits: Sequence[int],
    max_batches: float,
    max_clips: int = MAX_CLIPS_AHEAD,
) -> Iterator[list[tuple[Fetched, ...]]]:
    """Group what arrives, so that clips of like length can share a batch."""
    window: list[tuple[Fetched, ...]] = []
    size = 0.0
    for item in fetched:
        window.append(item)
        size += n_batches(item, limits)
        if size >= max_batches or len(window) >= max_clips:
            yield window
            window, size = [], 0.0
    if window:
        yield window
