"""Making one part: decode, batch, run the models, write, commit. What a worker does."""

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from extractors.contract import Extractor, Identity
from mer_store.errors import MerStoreError
from mer_store.store.store import Store
from mer_store.store.summary import reason_kind
from mer_store.store.writer import PartWriter
from pipelines.cached import from_cache
from pipelines.in_hand import Noted
from pipelines.outcomes import Outcome, Stopwatch, outcomes
from pipelines.resident import resident_extractors
from pipelines.unfit import UnfitError, is_of_the_process
from pipelines.versions import versions_of
from pipelines.work import LevelWork, PartReport, PartWork, StreamWork, Tally

Report = Callable[[Tally], None]

N_EXAMPLES = 5
FEW = 3
STATUSES = ("ok", "empty", "failed")
"""From best to worst."""
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


def make_part(work: PartWork, report: Report | None = None, *, noted: bool = False) -> PartReport:
    """Extract the clips of `work` and commit them, one part per stream and level.

    Stops early, committing what is done, once `work.stop_path` exists. `noted` keeps a note of
    the clips in hand at `work.note_path`, for the case that this process dies.

    Raises
    ------
    UnfitError
        This process can do nothing: a model does not load, or fails on every clip; the media are not here.
    MerStoreError
        Nobody could: the store cannot be written.
    """
    store, extractors = _open(work)
    with ExitStack() as stack:
        if noted and work.note_path:
            note = Path(work.note_path)
            extractors = [stack.enter_context(Noted(one, note)) for one in extractors]
        writers: dict[int, list[PartWriter]] = {}  # by stream
        clock, count = Stopwatch(work), _Count(work)
        for outcome in outcomes(extractors, work, clock):
            clock.lap()
            # Not before: a model that does not load leaves no empty feature set.
            if outcome.stream not in writers:
                writers[outcome.stream] = [
                    stack.enter_context(_writer(store, level))
                    for level in work.streams[outcome.stream].levels
                ]
            rows = [
                writer.add(outcome.rows(writer.spec.level)) for writer in writers[outcome.stream]
            ]
            clock.wrote(outcome.stream)
            worst = max(rows, key=lambda row: STATUSES.index(row.status))
            tally = count.add(outcome, worst.status, worst.reason) + clock.take()
            count.total += tally
            if report:
                report(tally)
        clock.lap()
        part_ids: list[str] = []
        for stream, some in sorted(writers.items()):
            part_ids += [writer.commit().part_id for writer in some]
            clock.wrote(stream)
        committing = clock.take()
        count.total += committing
        if report:
            report(committing)
    return count.report(tuple(part_ids))


class _Count:
    """Counts clips: each once, when its last stream is done: failed if one did, ok if one has rows."""

    def __init__(self, work: PartWork) -> None:
        self.total = Tally()
        self._names = [stream.request.stream_name for stream in work.streams]
        ids = (*(source.clip_id for source in work.sources), *work.rejected)
        self._left = {clip_id: set(range(len(work.streams))) for clip_id in ids}
        self._became: dict[str, set[str]] = {}
        self._media_s: dict[str, float] = {}
        self._reasons = Counter[str]()
        self._examples: list[tuple[str, str]] = []

    def add(self, outcome: Outcome, status: str, reason: str | None) -> Tally:
        """Take what became of a clip in a stream; return what that adds to the clips that are done."""
        clip_id = outcome.clip_id
        if reason:
            prefix = f"{self._names[outcome.stream]}: " if len(self._names) > 1 else ""
            self._reasons[prefix + reason_kind(reason)] += 1
            if status == "failed" and len(self._examples) < N_EXAMPLES:
                self._examples.append((clip_id, prefix + reason))
        self._became.setdefault(clip_id, set()).add(status)
        if status == "ok":
            self._media_s[clip_id] = max(self._media_s.get(clip_id, 0.0), outcome.media_s)
        self._left[clip_id].discard(outcome.stream)
        if self._left[clip_id]:
            return Tally()
        del self._left[clip_id]
        became = self._became.pop(clip_id)
        failed, is_ok = "failed" in became, "ok" in became
        return Tally(
            n_ok=is_ok and not failed,
            n_empty=not is_ok and not failed,
            n_failed=failed,
            media_s=self._media_s.pop(clip_id, 0.0),
        )

    def report(self, part_ids: tuple[str, ...]) -> PartReport:
        """Return what a worker tells of the part."""
        left = tuple((clip_id, tuple(sorted(streams))) for clip_id, streams in self._left.items())
        reasons, examples = dict(self._reasons), tuple(self._examples)
        return PartReport(self.total, part_ids, reasons, examples, bool(left), left)


def _writer(store: Store, level: LevelWork) -> PartWriter:
    versions = versions_of(*VERSIONED)
    return PartWriter(
        store.ensure(level.spec), level.layers, attempt=level.attempt, versions=versions
    )


def _open(work: PartWork) -> tuple[Store, list[Extractor]]:
    """Open store and extractors. What fails here would fail for every clip."""
    try:
        store = Store.open(work.store)
        extractors = resident_extractors([stream.request for stream in work.streams], work.requests)
        for extractor, stream in zip(extractors, work.streams, strict=True):
            require_same(extractor.identity, stream)
        _require_media(work, extractors)
        return store, [from_cache(one, store, work.sources) for one in extractors]
    except (MerStoreError, ImportError, OSError, RuntimeError) as error:
        if is_of_the_process(error):
            raise UnfitError.of(error) from error
        raise


def _require_media(work: PartWork, extractors: list[Extractor]) -> None:
    """Refuse clips none of whose media are here, where the planner saw some: no clip is to blame."""
    if not work.media_seen or len(work.sources) < FEW:  # one or two may be lost by themselves
        return
    paths = (extractor.path(source) for source in work.sources for extractor in extractors)
    missing = None
    for path in paths:
        if path is not None and path.exists():
            return
        missing = missing or path
    if missing is None:  # transcripts alone: what needs media was left out
        return
    raise MerStoreError(
        f"{missing}: not here, nor are the other clips of this part, yet the run was planned with them: "
        f"mount the media under the same path on every host, or plug the disk in again"
    )


def require_same(identity: Identity, work: StreamWork) -> None:
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
