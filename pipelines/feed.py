"""The feed: reading and decoding in threads, a bounded way ahead of the model."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

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
        return Fetched(
            source, origin, ClipFailed(f"cannot decode: {type(error).__name__}: {one_line(error)}")
        )


def one_line(error: BaseException) -> str:
    """Squeeze an error's text into one line of the ledger."""
    return " ".join(str(error).split())[:300]


def feed(
    extractor: Extractor,
    sources: Sequence[Source],
    n_threads: int,
    batch_limit: int,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Fetched]:
    """Decode `sources` in `n_threads`, in order, staying a bounded way ahead of whoever consumes.

    Ends early once `stopped` says so, even while a long clip is being decoded.
    """
    pool = ThreadPoolExecutor(n_threads, thread_name_prefix="decode")
    waiting: deque[Future[Fetched]] = deque()
    remaining = iter(sources)
    try:
        while True:
            while (
                len(waiting) < MAX_CLIPS_AHEAD and _size(waiting) < MAX_BATCHES_AHEAD * batch_limit
            ):
                source = next(remaining, None)
                if source is None:
                    break
                waiting.append(pool.submit(fetch, extractor, source))
            if not waiting:
                return
            while not wait([waiting[0]], timeout=POLL_S).done:
                if stopped():
                    return
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _size(waiting: deque[Future[Fetched]]) -> int:
    done = (future.result().loaded for future in waiting if future.done())
    return sum(loaded.size for loaded in done if isinstance(loaded, Loaded))


def windows(
    fetched: Iterator[Fetched], size_limit: int, n_limit: int = 64
) -> Iterator[list[Fetched]]:
    """Group what arrives, so that clips of like length can share a batch."""
    window: list[Fetched] = []
    size = 0
    for item in fetched:
        window.append(item)
        size += item.loaded.size if isinstance(item.loaded, Loaded) else 0
        if size >= size_limit or len(window) >= n_limit:
            yield window
            window, size = [], 0
    if window:
        yield window
