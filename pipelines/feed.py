"""The feed: reading and decoding in threads, a bounded way ahead of the model."""

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Condition

from extractors.contract import ClipFailed, ClipProblem, Extractor, Loaded, Origin, Source

#: Decoded clips waiting, at most; and their size, in batches of the extractor.
MAX_CLIPS_AHEAD = 128
MAX_BATCHES_AHEAD = 4
POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Fetched:
    """One clip read and decoded, or the reason why not."""

    source: Source
    origin: Origin | None
    """None where not even the bytes could be read."""
    loaded: Loaded | ClipProblem


def fetch(extractor: Extractor, source: Source) -> Fetched:
    """Read and decode one clip. Whatever a decoder raises is that clip's outcome, never the run's end."""
    origin = None
    try:
        blob = extractor.open(source)
        origin = blob.origin
        return Fetched(source, origin, extractor.load(blob))
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
    extractor: Extractor,
    sources: Sequence[Source],
    n_threads: int,
    batch_limit: int,
    stopped: Callable[[], bool] = lambda: False,
) -> Generator[Fetched, None, None]:
    """Decode `sources` in `n_threads`, in order, staying a bounded way ahead of whoever consumes.

    Ends early once `stopped` says so, even while a long clip is being decoded.
    """
    ahead = _Ahead(extractor, sources, MAX_BATCHES_AHEAD * batch_limit)
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

    It holds `limit` and, beyond that, a clip for each thread at most: how large a clip is, is known only when
    it is decoded.
    """

    def __init__(self, extractor: Extractor, sources: Sequence[Source], limit: int) -> None:
        self._extractor = extractor
        self._sources = sources
        self._limit = limit
        self._changed = Condition()
        self._ready: dict[int, Fetched] = {}
        self._size = 0
        self._n_begun = 0
        self._n_taken = 0
        self._closed = False

    def decode(self) -> None:
        """Decode clip after clip until there is none left. What each thread does."""
        while (row := self._begin()) is not None:
            source = self._sources[row]
            try:
                item = fetch(self._extractor, source)
            except BaseException as error:  # noqa: BLE001 - what a thread raises, nobody hears
                item = Fetched(source, None, _undecodable(error))
            with self._changed:
                self._ready[row] = item
                self._size += _size(item)
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
        return over or (self._size < self._limit and n_ahead < MAX_CLIPS_AHEAD)

    def take(self, row: int, timeout_s: float) -> Fetched | None:
        """Return the clip in `row`, None where it is not decoded in time. Rows are taken in order."""
        with self._changed:
            if not self._changed.wait_for(lambda: row in self._ready, timeout_s):
                return None
            item = self._ready.pop(row)
            self._size -= _size(item)
            self._n_taken += 1
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Let the threads end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def _size(item: Fetched) -> int:
    return item.loaded.size if isinstance(item.loaded, Loaded) else 0


def windows(
    fetched: Iterator[Fetched], size_limit: int, n_limit: int = 64
) -> Iterator[list[Fetched]]:
    """Group what arrives, so that clips of like length can share a batch."""
    window: list[Fetched] = []
    size = 0
    for item in fetched:
        window.append(item)
        size += _size(item)
        if size >= size_limit or len(window) >= n_limit:
            yield window
            window, size = [], 0
    if window:
        yield window
