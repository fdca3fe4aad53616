"""The plan: which clips and layers are missing, as units of work."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from extractors.contract import ExtractorRequest, Source
from mer_store.layers import Layer
from mer_store.spec import Spec
from mer_store.store.ledger import Ledger, Status
from mer_store.store.store import Store
from pipelines.freshness import Freshness
from pipelines.work import LevelWork, PartWork, StreamWork

TRIED = (Status.OK, Status.EMPTY, Status.FAILED)


@dataclass(frozen=True)
class Plan:
    """What there is to do, and what need not be done."""

    parts: tuple[PartWork, ...]
    n_clips: int
    n_stored: int
    """Clips that have every layer asked for."""
    n_stale: int
    n_failed_before: int
    """Clips that failed in an earlier run and are not tried again."""
    n_empty_before: int
    n_to_do: int


@dataclass(frozen=True)
class Wanted:
    """What is wanted of one modality."""

    request: ExtractorRequest
    levels: tuple[tuple[Spec, tuple[Layer, ...]], ...]
    freshness: Freshness


@dataclass(frozen=True)
class _Level:
    stream: int
    """Number of the modality."""
    spec: Spec
    layers: tuple[Layer, ...]
    ledger: Ledger
    status: NDArray[np.uint8]
    """[clips, layers] of `Status`"""
    stale: NDArray[np.bool_]
    need: NDArray[np.bool_]
    """[clips, layers]"""


def make_plan(
    store: Store,
    wanted: Sequence[Wanted],
    sources: Sequence[Source],
    template: PartWork,
    *,
    rejected: Mapping[str, str],
    part_clips: int,
    retry_failed: bool = False,
) -> Plan:
    """Compare the clips with the store's ledger.

    Parts are `template` with clips and streams filled in: clips that miss the same layers of the same
    modalities go together, in the clip list's order, at most `part_clips` to a part. Clips in `rejected` have
    no usable source.
    """
    levels = [
        _look(store, number, one, level, sources, retry_failed=retry_failed)
        for number, one in enumerate(wanted)
        for level in one.levels
    ]
    need = np.concatenate([level.need for level in levels], axis=1)
    to_do = need.any(axis=1)
    status = np.concatenate([level.status for level in levels], axis=1)
    done = ~to_do
    parts = [
        part
        for rows in _chunks(_group(need, np.flatnonzero(to_do)), part_clips)
        for part in [_part(template, wanted, levels, sources, rows)]
    ]
    refused = _refused_parts(store, wanted, rejected, template, retry_failed=retry_failed)
    return Plan(
        parts=(*refused, *parts),
        n_clips=len(sources) + len(rejected),
        n_stored=int((done & (status == Status.OK).all(axis=1)).sum()),
        n_stale=int(np.any([level.stale for level in levels], axis=0).sum()),
        n_failed_before=int((done & (status == Status.FAILED).any(axis=1)).sum())
        + len(rejected)
        - sum(part.n_clips for part in refused),
        n_empty_before=int((done & (status == Status.EMPTY).any(axis=1)).sum()),
        n_to_do=int(to_do.sum()) + sum(part.n_clips for part in refused),
    )


def _look(
    store: Store,
    stream: int,
    wanted: Wanted,
    level: tuple[Spec, tuple[Layer, ...]],
    sources: Sequence[Source],
    *,
    retry_failed: bool,
) -> _Level:
    spec, layers = level
    ledger = read_ledger(store, spec, [source.clip_id for source in sources])
    stale = wanted.freshness.stale(ledger)
    status = ledger.of_layers(layers)
    settled = np.isin(status, (Status.OK, Status.EMPTY) if retry_failed else TRIED)
    return _Level(stream, spec, layers, ledger, status, stale, ~settled | stale[:, None])


def read_ledger(store: Store, spec: Spec, clip_ids: Sequence[str]) -> Ledger:
    """Return the ledger of the feature set that has `spec`: all missing where there is none yet."""
    for feature_set in store.feature_sets():
        if feature_set.spec == spec:
            return feature_set.ledger(clip_ids)
    return Ledger.empty(clip_ids)


def _group(need: NDArray[np.bool_], rows: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Split `rows` into groups that miss the same layers."""
    if not len(rows):
        return []
    _, group = np.unique(need[rows], axis=0, return_inverse=True)
    group = group.reshape(-1)
    return [rows[group == number] for number in range(int(group.max()) + 1)]


def _chunks(groups: Iterable[NDArray[np.intp]], size: int) -> Iterable[NDArray[np.intp]]:
    for group in groups:
        for start in range(0, len(group), size):
            yield group[start : start + size]


def _part(
    template: PartWork,
    wanted: Sequence[Wanted],
    levels: Sequence[_Level],
    sources: Sequence[Source],
    rows: NDArray[np.intp],
) -> PartWork:
    works: dict[int, list[LevelWork]] = {}
    for level in levels:
        missing = level.need[rows[0]]
        layers = tuple(layer for layer, needed in zip(level.layers, missing, strict=True) if needed)
        if layers:
            attempt = int(level.ledger.attempt[rows].max()) + 1
            works.setdefault(level.stream, []).append(LevelWork(level.spec, layers, attempt))
    seen = any(
        wanted[number].request.needs_media and wanted[number].freshness.files.there[rows].any()
        for number in works
    )
    return replace(
        template,
        sources=tuple(sources[row] for row in rows),
        streams=_streams(wanted, works),
        media_seen=seen,
    )


def _streams(
    wanted: Sequence[Wanted], works: Mapping[int, Sequence[LevelWork]]
) -> tuple[StreamWork, ...]:
    return tuple(
        StreamWork(wanted[number].request, tuple(works[number])) for number in sorted(works)
    )


def _refused_parts(
    store: Store,
    wanted: Sequence[Wanted],
    rejected: Mapping[str, str],
    template: PartWork,
    *,
    retry_failed: bool,
) -> list[PartWork]:
    """Return a part that records the clips refused by the clip list, unless the ledger says so already."""
    clip_ids = list(rejected)
    known = np.ones(len(clip_ids), dtype=bool)
    works: dict[int, list[LevelWork]] = {}
    for number, one in enumerate(wanted):
        for spec, layers in one.levels:
            ledger = read_ledger(store, spec, clip_ids)
            attempt = int(ledger.attempt.max(initial=-1)) + 1
            works.setdefault(number, []).append(LevelWork(spec, layers, attempt))
            known &= ledger.status != Status.MISSING
    if retry_failed:
        known[:] = False
    left = {
        clip_id: rejected[clip_id]
        for clip_id, done in zip(clip_ids, known, strict=True)
        if not done
    }
    return [replace(template, rejected=left, streams=_streams(wanted, works))] if left else []
