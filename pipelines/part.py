"""Making one part: decode, batch, run the model, write, commit. What a worker does."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from extractors.batching import batches
from extractors.contract import (
    ClipEmpty,
    ClipFailed,
    ClipProblem,
    Extractor,
    ExtractorRequest,
    Identity,
    Loaded,
    Origin,
    States,
    Want,
)
from extractors.table import build_extractor
from mer_store.errors import MerStoreError
from mer_store.store.store import Store
from mer_store.store.summary import reason_kind
from mer_store.store.writer import ClipRows, PartWriter
from pipelines.cached import from_cache
from pipelines.feed import Fetched, feed, one_line, windows
from pipelines.in_hand import Noted
from pipelines.interrupt import stop_is_asked
from pipelines.unfit import UnfitError, is_of_the_process
from pipelines.versions import versions_of
from pipelines.work import PartReport, PartWork, Tally

Outcome = tuple[str, Origin | None, States | ClipProblem, float]
"""Clip id, identity of its bytes, states or the reason for none, seconds of media."""

Report = Callable[[Tally], None]

WINDOW_BATCHES = 4
N_EXAMPLES = 5
VERSIONED = (
    "mer-store",
    "numpy",
    "torch",
    "transformers",
    "zarr",
    "av",
    "opencv-python",
    "sentencepiece",
)

_extractors: dict[ExtractorRequest, Extractor] = {}
_extractors_lock = threading.Lock()


def resident_extractor(request: ExtractorRequest) -> Extractor:
    """Return this process's extractor for `request`, built once: one model is held at a time."""
    with _extractors_lock:
        if request not in _extractors:
            _extractors.clear()
            _extractors[request] = build_extractor(request)
        return _extractors[request]


def make_part(work: PartWork, report: Report | None = None, *, noted: bool = False) -> PartReport:
    """Extract the clips of `work` and commit them, one part per level.

    Stops early, committing the clips that are done, once `work.stop_path` exists. `noted` keeps a note of
    the clips in hand at `work.note_path`, for the case that this process dies.

    Raises
    ------
    UnfitError
        This process can do nothing: the model does not load, or fails on every clip.
    MerStoreError
        Nobody could: the store cannot be written.
    """
    store, extractor = _open(work)
    total, reasons, examples = Tally(), Counter[str](), list[tuple[str, str]]()
    left = {source.clip_id for source in work.sources}
    with ExitStack() as stack:
        if noted and work.note_path:
            extractor = stack.enter_context(Noted(extractor, Path(work.note_path)))
        writers = [
            stack.enter_context(
                PartWriter(
                    store.ensure(level.spec),
                    level.layers,
                    attempt=level.attempt,
                    versions=versions_of(*VERSIONED),
                )
            )
            for level in work.levels
        ]
        clock = Stopwatch()
        for outcome in outcomes(extractor, work, clock):
            clock.lap()
            rows = [writer.add(clip_rows(outcome, writer.spec.level)) for writer in writers]
            writing_s = clock.lap()
            worst = max(rows, key=lambda row: ("ok", "empty", "failed").index(row.status))
            if worst.reason:
                reasons[reason_kind(worst.reason)] += 1
            if worst.status == "failed" and len(examples) < N_EXAMPLES:
                examples.append((worst.clip_id, worst.reason or ""))
            tally = (
                Tally(
                    n_ok=worst.status == "ok",
                    n_empty=worst.status == "empty",
                    n_failed=worst.status == "failed",
                    media_s=outcome[3] if worst.status == "ok" else 0.0,
                    writing_s=writing_s,
                )
                + clock.take()
            )
            total += tally
            left.discard(worst.clip_id)
            if report:
                report(tally)
        clock.lap()
        part_ids = tuple(writer.commit().part_id for writer in writers if writer.n_clips)
        committing = Tally(writing_s=clock.lap())
        total += committing
        if report:
            report(committing)
    return PartReport(total, part_ids, dict(reasons), tuple(examples), bool(left), tuple(left))


def _open(work: PartWork) -> tuple[Store, Extractor]:
    """Open store and extractor. What fails here would fail for every clip."""
    try:
        store = Store.open(work.store)
        extractor = resident_extractor(work.request)
        require_same(extractor.identity, work)
        return store, from_cache(extractor, store, work.sources)
    except (MerStoreError, ImportError, OSError, RuntimeError) as error:
        if is_of_the_process(error):
            raise UnfitError.of(error) from error
        raise


def require_same(identity: Identity, work: PartWork) -> None:
    """Refuse to store what this process computes under the name of what another one would.

    Raises
    ------
    MerStoreError
        The model here is another, or computes otherwise: ``auto`` is bfloat16 on a GPU and float32 on a CPU.
    """
    for level in work.levels:
        for name in ("model", "weights", "recipe", "preprocessing", "compute_dtype", "trained"):
            planned, here = getattr(level.spec, name), getattr(identity, name)
            if planned != here:
                raise MerStoreError(
                    f"{name}: the run was planned for {planned}, here it is {here}; give --compute-dtype and "
                    f"--model so that they mean the same on every machine"
                )


def outcomes(extractor: Extractor, work: PartWork, clock: "Stopwatch") -> Iterator[Outcome]:
    """Yield one outcome per clip as it is known, in no particular order."""
    for clip_id, reason in work.rejected.items():
        yield clip_id, None, ClipFailed(reason), 0.0
    limit = work.batch_limit or extractor.batch_limit
    model = GuardedModel(extractor, work.want)
    stopped = partial(stop_is_asked, work.stop_path)
    fetched = feed(extractor, work.sources, work.n_decoders, limit, stopped)
    with closing(fetched):  # else its threads live on where an error holds on to this frame
        stream = windows(fetched, WINDOW_BATCHES * limit)
        clock.lap()
        for window in stream:
            clock.waiting_s += clock.lap()
            yield from _problems(window)
            by_id = {item.source.clip_id: item for item in window}
            ready = [item.loaded for item in window if isinstance(item.loaded, Loaded)]
            for batch in batches(ready, limit, equal_sizes=extractor.equal_sizes):
                if stopped():
                    break
                clock.lap()
                states = model(batch)
                clock.computing_s += clock.lap()
                for loaded, state in zip(batch, states, strict=True):
                    yield loaded.clip_id, by_id[loaded.clip_id].origin, state, loaded.media_s
            if stopped():
                break
            clock.lap()
    model.check()


def _problems(window: list[Fetched]) -> Iterator[Outcome]:
    for item in window:
        if isinstance(item.loaded, ClipProblem):
            yield item.source.clip_id, item.origin, item.loaded, 0.0


class GuardedModel:
    """Calls the model so that one bad clip fails alone, and a broken model blames no clip."""

    def __init__(self, extractor: Extractor, want: Want) -> None:
        self._extractor = extractor
        self._want = want
        self._n_answered = 0
        self._first_error: Exception | None = None

    def __call__(self, batch: list[Loaded]) -> list[States | ClipProblem]:
        """Return one outcome per clip; where the batch raises, try its clips one by one."""
        try:
            states = self._extractor(batch, self._want)
        except MerStoreError as error:  # weights that do not load
            raise UnfitError.of(error) from error
        except Exception as error:  # noqa: BLE001 - any error of a model library; see check()
            self._first_error = self._first_error or error
            if len(batch) > 1:
                return [state for loaded in batch for state in self([loaded])]
            return [ClipFailed(f"the model raised {type(error).__name__}: {one_line(error)}")]
        self._n_answered += len(batch)
        return states

    def check(self) -> None:
        """Raise if the model never gave an answer: then it is the model, and no clip is to blame."""
        if self._first_error is not None and not self._n_answered:
            error = self._first_error
            raise UnfitError(
                f"model {self._extractor.identity.model}: failed on every clip, first with "
                f"{type(error).__name__}: {one_line(error)}. Nothing was recorded for these clips; "
                f"try another --device, --compute-dtype or --model"
            ) from error


def clip_rows(outcome: Outcome, level: str) -> ClipRows:
    """Turn an outcome into what the writer of `level` stores."""
    clip_id, origin, states, _ = outcome
    rows = ClipRows(clip_id, "failed")
    if origin:
        rows = replace(rows, digest=origin.digest, n_bytes=origin.n_bytes, mtime_ns=origin.mtime_ns)
    if isinstance(states, ClipProblem):
        status = "empty" if isinstance(states, ClipEmpty) else "failed"
        return replace(rows, status=status, reason=str(states))
    if level == "frame":
        layers = dict(states.frame)
    else:
        layers = {layer: vector[None, :] for layer, vector in states.utterance.items()}
    return replace(rows, status="ok", layers=layers, tables=states.tables)


class Stopwatch:
    """Splits a worker's time into waiting, computing and the rest."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.waiting_s = 0.0
        self.computing_s = 0.0

    def lap(self) -> float:
        """Return the seconds since the last lap."""
        now = time.perf_counter()
        elapsed, self._last = now - self._last, now
        return elapsed

    def take(self) -> Tally:
        """Return and reset what was gathered."""
        tally = Tally(waiting_s=self.waiting_s, computing_s=self.computing_s)
        self.waiting_s = self.computing_s = 0.0
        return tally
