"""What becomes of the clips of a part: each read once, and given to every modality's model."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

from extractors.batching import batches
from extractors.contract import (
    ClipEmpty,
    ClipFailed,
    ClipProblem,
    Extractor,
    Loaded,
    Origin,
    States,
)
from mer_store.store.writer import ClipRows
from pipelines.feed import Fetched, feed, windows
from pipelines.guarded import GuardedModel
from pipelines.interrupt import stop_is_asked
from pipelines.turns import TURNS
from pipelines.work import PartWork, Tally

WINDOW_BATCHES = 4


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a clip in one stream."""

    clip_id: str
    stream: int
    """Its number in the part's work."""
    origin: Origin | None
    """Identity of its bytes; None where they could not be read."""
    states: States | ClipProblem
    media_s: float
    """Seconds of media."""

    def rows(self, level: str) -> ClipRows:
        """Return what the writer of `level` stores."""
        origin, states = self.origin, self.states
        identity: dict[str, Any] = {}
        if origin:
            identity = {
                "digest": origin.digest, "n_bytes": origin.n_bytes, "mtime_ns": origin.mtime_ns,
            }  # fmt: skip
        if isinstance(states, ClipProblem):
            status = "empty" if isinstance(states, ClipEmpty) else "failed"
            return ClipRows(self.clip_id, status, str(states), **identity)
        if level == "frame":
            layers = dict(states.frame)
        else:
            layers = {layer: vector[None, :] for layer, vector in states.utterance.items()}
        return ClipRows(self.clip_id, "ok", **identity, layers=layers, tables=states.tables)


class Stopwatch:
    """Splits a worker's time into waiting, computing and writing, and says what was each modality's."""

    def __init__(self, work: PartWork) -> None:
        self._last = time.perf_counter()
        self._names = [stream.request.stream_name for stream in work.streams]
        self._several = max(len(work.streams), len(work.requests)) > 1
        self._gathered = Tally()

    def lap(self) -> float:
        """Return the seconds since the last lap."""
        now = time.perf_counter()
        elapsed, self._last = now - self._last, now
        return elapsed

    def waited(self, window: Sequence[Sequence[Fetched]]) -> None:
        """Count the time since the last lap as waiting for `window`, and what threads did for it."""
        self._gathered += Tally(waiting_s=self.lap())
        for number, column in enumerate(zip(*window, strict=True)):
            self._say("decoding", number, sum(item.decoding_s for item in column))
            self._say("decoding", None, sum(item.reading_s for item in column))

    def computed(self, stream: int) -> None:
        """Count the time since the last lap as that stream's model's."""
        elapsed_s = self.lap()
        self._gathered += Tally(computing_s=elapsed_s)
        self._say("computing", stream, elapsed_s)

    def wrote(self, stream: int) -> None:
        """Count the time since the last lap as the writing of that stream's rows."""
        elapsed_s = self.lap()
        self._gathered += Tally(writing_s=elapsed_s)
        self._say("writing", stream, elapsed_s)

    def _say(self, stage: str, stream: int | None, seconds: float) -> None:
        if self._several:
            words = stage if stream is None else f"{stage} {self._names[stream]}"
            self._gathered += Tally(by_modality={words: seconds})

    def take(self) -> Tally:
        """Return and reset what was gathered."""
        tally, self._gathered = self._gathered, Tally()
        return tally


def outcomes(
    extractors: Sequence[Extractor], work: PartWork, clock: Stopwatch
) -> Iterator[Outcome]:
    """Yield an outcome for each clip in each stream as it is known, in no particular order.

    Parameters
    ----------
    extractors
        Of the work's streams, in their order.
    work
        The part.
    clock
        Told how long was waited for input, and computed.

    Raises
    ------
    UnfitError
        A model does not load, or fails on every clip.
    """
    for clip_id, reason in work.rejected.items():
        for number in range(len(extractors)):
            yield Outcome(clip_id, number, None, ClipFailed(reason), 0.0)
    limits = [work.batch_limit or extractor.batch_limit for extractor in extractors]
    models = [
        GuardedModel(extractor, stream.want, stream.request)
        for extractor, stream in zip(extractors, work.streams, strict=True)
    ]
    stopped = partial(stop_is_asked, work.stop_path)
    fetched = feed(extractors, work.sources, work.n_decoders, limits, stopped)
    ticket = TURNS.ticket()
    with closing(fetched):  # else its threads live on where an error holds on to this frame
        clock.lap()
        for window in windows(fetched, limits, WINDOW_BATCHES):
            clock.waited(window)
            for number, column in enumerate(zip(*window, strict=True)):
                yield from _problems(number, column)
                by_id = {item.source.clip_id: item for item in column}
                ready = [item.loaded for item in column if isinstance(item.loaded, Loaded)]
                equal_sizes = extractors[number].equal_sizes
                for batch in batches(ready, limits[number], equal_sizes=equal_sizes):
                    with TURNS.turn(ticket):
                        if stopped():
                            break
                        clock.lap()  # waiting for a turn is nobody's time: another computes
                        states = models[number](batch)
                        clock.computed(number)
                    for loaded, state in zip(batch, states, strict=True):
                        origin = by_id[loaded.clip_id].origin
                        yield Outcome(loaded.clip_id, number, origin, state, loaded.media_s)
            if stopped():
                break
            clock.lap()
    for model in models:
        model.check()


def _problems(number: int, column: Sequence[Fetched]) -> Iterator[Outcome]:
    for item in column:
        if isinstance(item.loaded, ClipProblem):
            yield Outcome(item.source.clip_id, number, item.origin, item.loaded, 0.0)
