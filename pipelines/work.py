"""Units of work: what one worker extracts and commits as one part per level."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from extractors.contract import ExtractorRequest, Source, Want
from mer_store.layers import Layer
from mer_store.spec import Spec


@dataclass(frozen=True)
class LevelWork:
    """The layers to store at one level."""

    spec: Spec
    layers: tuple[Layer, ...]
    attempt: int
    """0 for clips never tried; above every attempt recorded where clips failed or went stale."""


@dataclass(frozen=True)
class StreamWork:
    """What one modality's extractor makes of the clips."""

    request: ExtractorRequest
    levels: tuple[LevelWork, ...]

    @property
    def want(self) -> Want:
        """Layers by level, as an extractor takes them."""
        by_level = {level.spec.level: level.layers for level in self.levels}
        return Want(by_level.get("utterance", ()), by_level.get("frame", ()))


@dataclass(frozen=True)
class PartWork:
    """Clips to extract in one pass. Small and picklable: a worker opens store and models itself."""

    store: str
    streams: tuple[StreamWork, ...]
    """Of the modalities that the clips lack."""
    sources: tuple[Source, ...]
    rejected: Mapping[str, str] = field(default_factory=dict)
    """Clip ids that the clip list's checks refused, with the reason: recorded as failed, never opened."""
    requests: tuple[ExtractorRequest, ...] = ()
    """All of the run: a worker keeps their models from part to part."""
    n_decoders: int = 2
    """Threads that read and decode beside the model."""
    batch_limit: int | None = None
    """Overrides the extractor's own."""
    n_deaths: int = 0
    """Workers that died while making this part."""
    note_path: str = ""
    """Where a worker that may die notes the clips it has in hand."""
    put_off: bool = False
    """Whether its clips all broke a model that had not answered any other yet."""
    suspects: frozenset[str] = frozenset()
    """Clips in hand at the last death."""
    media_seen: bool = False
    """Whether the planner saw media of these clips: a worker that sees none is on the wrong host."""
    stop_path: str = ""
    """A file whose appearance asks the worker to commit what it has and return."""

    @property
    def n_clips(self) -> int:
        """Clips that will get a ledger row."""
        return len(self.sources) + len(self.rejected)


@dataclass(frozen=True)
class Tally:
    """What became of some clips, and where the time went. Adds up."""

    n_ok: int = 0
    n_empty: int = 0
    n_failed: int = 0
    media_s: float = 0.0
    """Seconds of media behind the `n_ok` clips."""
    waiting_s: float = 0.0
    """Time the model waited for decoded input."""
    computing_s: float = 0.0
    writing_s: float = 0.0
    by_modality: Mapping[str, float] = field(default_factory=dict)
    """In a pass over several, what each took, in seconds: ``decoding visual``, ``computing visual``,
    ``writing visual``; ``decoding`` alone is reading. Threads decode: the model waits for a part of that."""

    @property
    def n_clips(self) -> int:
        """All clips that were dealt with."""
        return self.n_ok + self.n_empty + self.n_failed

    def __add__(self, other: "Tally") -> "Tally":
        """Add field by field."""
        return Tally(
            self.n_ok + other.n_ok,
            self.n_empty + other.n_empty,
            self.n_failed + other.n_failed,
            self.media_s + other.media_s,
            self.waiting_s + other.waiting_s,
            self.computing_s + other.computing_s,
            self.writing_s + other.writing_s,
            _sums(self.by_modality, other.by_modality) if other.by_modality else self.by_modality,
        )

    def __sub__(self, other: "Tally") -> "Tally":
        """Subtract field by field."""
        negative = {name: -getattr(other, name) for name in NUMBERS}
        seconds = {name: -some_s for name, some_s in other.by_modality.items()}
        return self + Tally(**negative, by_modality=seconds)

    @property
    def by_stage(self) -> dict[str, float]:
        """Seconds by stage. What the model waited is the decoding and reading not hidden behind it."""
        return {
            "decoding": self.waiting_s, "computing": self.computing_s, "writing": self.writing_s,
        }  # fmt: skip

    def parts_of(self, stage: str) -> dict[str, float]:
        """Return each modality's part of a stage of `by_stage`, the largest first.

        They add up to 1; empty where there is one modality. Reading has the name ''.
        """
        seconds = {
            words.partition(" ")[2]: some_s
            for words, some_s in self.by_modality.items()
            if words.partition(" ")[0] == stage and some_s > 0
        }
        ordered = sorted(seconds, key=lambda name: -seconds[name])
        return {name: seconds[name] / sum(seconds.values()) for name in ordered}


def _sums(some: Mapping[str, float], more: Mapping[str, float]) -> dict[str, float]:
    return {name: some.get(name, 0.0) + more.get(name, 0.0) for name in {**some, **more}}


NUMBERS = tuple(item.name for item in fields(Tally) if item.name != "by_modality")


@dataclass(frozen=True)
class PartReport:
    """What a worker returns: a few bytes, never features."""

    tally: Tally
    part_ids: tuple[str, ...]
    reasons: Mapping[str, int]
    """How many clips failed or were empty, by reason."""
    examples: tuple[tuple[str, str], ...]
    """The first few clips that failed, with the reason."""
    stopped: bool = False
    """True where the worker was asked to stop before the last clip."""
    left: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """Clips that it did not deal with, and the numbers of the streams that lack them."""
