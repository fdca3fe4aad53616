"""Extraction from end to end: clips and a store in, committed parts out."""

from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from extractors.contract import Extractor, ExtractorRequest, Identity, Source
from extractors.table import build_extractor
from mer_store.clips.clip_list import ClipList
from mer_store.clips.seen import SeenMedia
from mer_store.errors import MerStoreError, UsageError
from mer_store.layers import Layer, parse_layers, sort_layers
from mer_store.spec import Spec
from mer_store.store.ledger_row import is_valid_clip_id
from mer_store.store.store import Store
from pipelines.cached import from_cache
from pipelines.crews import gather_crew
from pipelines.freshness import Freshness
from pipelines.interrupt import StopFile, stop_on_signal
from pipelines.machine import n_cpus
from pipelines.plan import Plan, make_plan
from pipelines.progress import Progress
from pipelines.run import RunReport, run_parts
from pipelines.work import PartWork
from pipelines.workers import Workers

CACHE_FOLDER = ".cache"


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
    stored_dtype: str = "float16"
    part_clips: int = 1024
    workers: Workers = field(default_factory=Workers)
    progress: str = "auto"
    """``auto`` for people, ``json`` for programs, ``none``."""
    n_decoders: int | None = None
    """Decoding threads beside each model; None is a worker's share of its cores."""
    batch_limit: int | None = None
    retry_failed: bool = False


def wanted_layers(settings: ExtractSettings, identity: Identity) -> dict[str, tuple[Layer, ...]]:
    """Return the layers to store at each level that is asked for."""
    layers = (
        parse_layers(settings.layers, identity.layers)
        if settings.layers
        else identity.default_layers
    )
    extra = parse_layers(settings.frame_layers, identity.layers) if settings.frame_layers else ()
    wanted = {
        "utterance": layers if settings.level in ("utterance", "both") else (),
        "frame": sort_layers((*(layers if settings.level in ("frame", "both") else ()), *extra)),
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
        stored_dtype=stored_dtype,
        trained=identity.trained,
    )


@dataclass(frozen=True)
class Extraction:
    """An extraction that is planned and can be run."""

    store: Store
    extractor: Extractor
    settings: ExtractSettings
    wanted: tuple[tuple[Spec, tuple[Layer, ...]], ...]
    sources: tuple[Source, ...]
    plan: Plan
    stop: StopFile

    def run(self) -> RunReport:
        """Make the planned parts. Ctrl-C commits what is done and returns with ``stopped`` set."""
        if not self.plan.parts:
            return RunReport()
        settings = self.settings
        progress = Progress(settings.request.modality, self.plan.n_to_do, style=settings.progress)
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
    extractor = build_extractor(settings.request)
    levels = wanted_layers(settings, extractor.identity)
    wanted = tuple(
        (spec_of(extractor.identity, level, settings.stored_dtype), layers)
        for level, layers in levels.items()
    )
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
        # A worker may have another device: what is decided by this one's is sent along.
        request=replace(settings.request, compute_dtype=extractor.identity.compute_dtype),
        sources=(),
        levels=(),
        n_decoders=settings.n_decoders or _n_decoders(settings.workers),
        batch_limit=settings.batch_limit,
        stop_path=str(stop.path.absolute()),
    )
    extractor = from_cache(extractor, store, sources)
    freshness = Freshness(extractor, sources, SeenMedia(cache / "seen.sqlite"))
    plan = make_plan(
        store, wanted, sources, template, freshness,
        rejected=rejected, part_clips=settings.part_clips, retry_failed=settings.retry_failed,
    )  # fmt: skip
    return Extraction(store, extractor, settings, wanted, sources, plan, stop)


def _n_decoders(workers: Workers) -> int:
    """Return how many decoding threads each worker gets: its cores but the model's own."""
    if workers.slurm:
        return workers.slurm.n_decoders
    return max(1, min(8, n_cpus() // (workers.number or 1) - 1))


def estimate_bytes(extraction: Extraction, n_samples: int = 8) -> int:
    """Estimate what the plan will store, decoding a few of its clips to learn how many frames they have."""
    itemsize = 2 if extraction.settings.stored_dtype == "float16" else 4
    widths = extraction.extractor.identity.widths
    frames_per_clip = (
        _frames_per_clip(extraction, n_samples) if _stores_frames(extraction.plan) else 1.0
    )
    total = 0.0
    for part in extraction.plan.parts:
        for level in part.levels:
            rows = len(part.sources) * (frames_per_clip if level.spec.level == "frame" else 1.0)
            total += rows * itemsize * sum(widths[layer] for layer in level.layers)
    return round(total)


def _stores_frames(plan: Plan) -> bool:
    return any(level.spec.level == "frame" for part in plan.parts for level in part.levels)


def _frames_per_clip(extraction: Extraction, n_samples: int) -> float:
    from extractors.contract import Loaded
    from pipelines.feed import fetch

    sources = [source for part in extraction.plan.parts for source in part.sources]
    chosen = sources[:: max(1, len(sources) // n_samples)][:n_samples]
    loaded = [fetch(extraction.extractor, source).loaded for source in chosen]
    frames = [item.n_frames for item in loaded if isinstance(item, Loaded)]
    if not frames:
        raise MerStoreError(
            "none of the clips tried could be decoded: no estimate; run without --dry-run to see why"
        )
    return sum(frames) / len(frames)
