"""Extraction from end to end: clips and a store in, committed parts out."""

from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from extractors.contract import CROPS, Extractor, ExtractorRequest, Identity, Source
from extractors.table import build_extractor
from mer_store.clips.clip_list import ClipList
from mer_store.clips.seen import SeenMedia
from mer_store.errors import UsageError
from mer_store.layers import Layer, parse_layers, sort_layers
from mer_store.spec import Spec
from mer_store.store.ledger_row import is_valid_clip_id
from mer_store.store.store import Store
from pipelines.cached import from_cache
from pipelines.crews import gather_crew
from pipelines.freshness import Freshness
from pipelines.interrupt import StopFile, stop_on_signal
from pipelines.machine import n_cpus
from pipelines.plan import Plan, Wanted, make_plan
from pipelines.progress import Progress
from pipelines.run import RunReport, run_parts
from pipelines.work import PartWork
from pipelines.workers import Workers

CACHE_FOLDER = ".cache"


@dataclass(frozen=True)
class Stream:
    """What is asked of one modality."""

    request: ExtractorRequest
    layers: str | None = None
    """As written on the command line; None is the modality's default."""
    frame_layers: str | None = None
    """Layers to store at frame level in the same pass."""

    @property
    def name(self) -> str:
        """What to call it."""
        return self.request.stream_name


@dataclass(frozen=True)
class ExtractSettings:
    """What ``mer-store extract`` is told."""

    request: ExtractorRequest
    layers: str | None = None
    """As written on the command line; None is the modality's default."""
    level: str = "utterance"
    """``utterance``, ``frame`` or ``both``."""
    frame_layers: str | None = None
    """Layers to store at frame level in the same pass."""
    others: tuple[Stream, ...] = ()
    """Further modalities, extracted in the same pass over the media."""
    stored_dtype: str = "float16"
    part_clips: int = 1024
    workers: Workers = field(default_factory=Workers)
    progress: str = "auto"
    """``auto`` for people, ``json`` for programs, ``none``."""
    n_decoders: int | None = None
    """Decoding threads beside each model; None is a worker's share of its cores."""
    batch_limit: int | None = None
    retry_failed: bool = False

    @property
    def streams(self) -> tuple[Stream, ...]:
        """All modalities."""
        return (Stream(self.request, self.layers, self.frame_layers), *self.others)


def wanted_layers(stream: Stream, level: str, identity: Identity) -> dict[str, tuple[Layer, ...]]:
    """Return the layers to store at each level that is asked for."""
    if identity.stored_dtype:  # bytes have one level
        level = "frame"
    layers = (
        parse_layers(stream.layers, identity.layers) if stream.layers else identity.default_layers
    )
    extra = parse_layers(stream.frame_layers, identity.layers) if stream.frame_layers else ()
    wanted = {
        "utterance": layers if level in ("utterance", "both") else (),
        "frame": sort_layers((*(layers if level in ("frame", "both") else ()), *extra)),
    }
    return {level: chosen for level, chosen in wanted.items() if chosen}


def spec_of(identity: Identity, level: str, stored_dtype: str) -> Spec:
    """Return the spec of what `identity` gives at `level`."""
    return Spec(
        modality=identity.modality,
        level=level,
        model=identity.model,
        weights=identity.weights,
        recipe=identity.recipe,
        preprocessing=identity.preprocessing,
        pooling=identity.pooling if level == "utterance" else "none",
        compute_dtype=identity.compute_dtype,
        stored_dtype=identity.stored_dtype or stored_dtype,
        trained=identity.trained,
    )


@dataclass(frozen=True)
class Extraction:
    """An extraction that is planned and can be run."""

    store: Store
    extractors: tuple[Extractor, ...]
    """Of each modality."""
    settings: ExtractSettings
    wanted: tuple[tuple[Spec, tuple[Layer, ...]], ...]
    """Of all modalities."""
    sources: tuple[Source, ...]
    plan: Plan
    stop: StopFile

    def run(self) -> RunReport:
        """Make the planned parts. Ctrl-C commits what is done and returns with ``stopped`` set."""
        if not self.plan.parts:
            return RunReport()
        settings = self.settings
        label = ", ".join(stream.name for stream in settings.streams)
        progress = Progress(label, self.plan.n_to_do, style=settings.progress)
        with (
            closing(progress),
            stop_on_signal(self.stop, outlived=bool(settings.workers.scheduler)),
            gather_crew(progress, settings.workers) as crew,
        ):
            return run_parts(self.plan.parts, crew, progress, self.stop)


def prepare(store: Store, clip_list: ClipList, settings: ExtractSettings) -> Extraction:
    """Find out what is missing.

    Raises
    ------
    UsageError
        A layer the model does not have, an unknown model, nothing to extract.
    """
    if settings.part_clips < 1:
        raise UsageError(f"--part-clips: expected 1 or more, got {settings.part_clips}")
    streams = [with_crops(store, stream) for stream in settings.streams]
    extractors = [build_extractor(stream.request) for stream in streams]
    sources = tuple(Source(clip.clip_id, clip.path, clip.text) for clip in clip_list.clips)
    rejected = {
        problem.clip_id: problem.reason
        for problem in clip_list.problems
        if problem.clip_id and is_valid_clip_id(problem.clip_id)
    }
    if not sources and not rejected:
        raise UsageError(
            f"{clip_list.path}: no clips; make a list with `mer-store clips folder DIR -o clips.csv`"
        )
    cache = Path(store.path) / CACHE_FOLDER
    stop = StopFile(cache)
    template = PartWork(
        store=str(Path(store.path).absolute()),
        streams=(),
        sources=(),
        n_decoders=settings.n_decoders or _n_decoders(settings.workers),
        batch_limit=settings.batch_limit,
        stop_path=str(stop.path.absolute()),
    )
    extractors = [from_cache(extractor, store, sources) for extractor in extractors]
    seen = SeenMedia(cache / "seen.sqlite")
    wanted = [
        _wanted(stream, settings, extractor, Freshness(extractor, sources, seen))
        for stream, extractor in zip(streams, extractors, strict=True)
    ]
    template = replace(template, requests=tuple(one.request for one in wanted))
    plan = make_plan(
        store, wanted, sources, template,
        rejected=rejected, part_clips=settings.part_clips, retry_failed=settings.retry_failed,
    )  # fmt: skip
    levels = tuple(level for one in wanted for level in one.levels)
    return Extraction(store, tuple(extractors), settings, levels, sources, plan, stop)


def _wanted(
    stream: Stream, settings: ExtractSettings, extractor: Extractor, freshness: Freshness
) -> Wanted:
    identity = extractor.identity
    # A worker may have another device: what is decided by this one's is sent along.
    request = replace(stream.request, compute_dtype=identity.compute_dtype)
    levels = tuple(
        (spec_of(identity, level, settings.stored_dtype), layers)
        for level, layers in wanted_layers(stream, settings.level, identity).items()
    )
    return Wanted(request, levels, freshness)


def with_crops(store: Store, stream: Stream) -> Stream:
    """Say which of the store's crops are meant, where stored crops are asked for.

    Raises
    ------
    UsageError
        The store holds several kinds of them.
    """
    if stream.request.faces != CROPS or stream.request.crops is not None:
        return stream
    held = [one.spec for one in store.feature_sets() if one.spec.model == CROPS]
    if len(held) > 1:
        raise UsageError(
            f"--faces crops: the store holds several: {', '.join(one.name for one in held)}"
        )
    crops = held[0].to_json() if held else None
    return replace(stream, request=replace(stream.request, crops=crops))


def _n_decoders(workers: Workers) -> int:
    """Return how many decoding threads each worker gets: its cores but the model's own."""
    if workers.slurm:
        return workers.slurm.n_decoders
    return max(1, min(8, n_cpus() // (workers.number or 1) - 1))
