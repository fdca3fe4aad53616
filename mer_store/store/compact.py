"""Compacting: the rows of many small parts once more, in few large ones. `prune` removes the small ones."""

from dataclasses import dataclass, replace

from mer_store.errors import StoreDamagedError
from mer_store.store.compact_plan import PART_CLIPS, Plan
from mer_store.store.copied_part import CopiedPart
from mer_store.store.feature_set import FeatureSet
from mer_store.store.store import Store
from mer_store.store.watch import Silent, Watch


@dataclass(frozen=True, slots=True)
class Compacted:
    """A new part, made or to be made."""

    modality: str
    feature_set: str
    part_id: str
    n_clips: int
    n_parts: int
    """Small parts that its rows were copied from."""
    n_bytes: int
    """Of the layers' rows."""
    problem: str | None = None
    """Why it was not made: something that was to be copied is damaged."""


def compact(
    store: Store,
    *,
    part_clips: int | None = None,
    dry_run: bool = False,
    watch: Watch | None = None,
) -> list[Compacted]:
    """Copy the rows of small parts into large ones. What any reader is told or given stays the same.

    Safe beside readers, writers and other compactors: new parts are committed as any part is, and nothing is
    removed. Stopped at any point, another call goes on; parts that are there already are not made again.

    Parameters
    ----------
    store
        The store.
    part_clips
        Clips of a new part; None is `PART_CLIPS` of the level. Parts of more than half of that are left.
    dry_run
        Only tell.
    watch
        Told of bytes and new parts.

    Returns
    -------
    list
        The new parts.
    """
    watch = watch or Silent()
    made = []
    for feature_set in store.feature_sets():
        made += _compact(
            feature_set, part_clips or PART_CLIPS[feature_set.spec.level], watch, dry_run=dry_run
        )
    return made


def _compact(
    feature_set: FeatureSet, part_clips: int, watch: Watch, *, dry_run: bool
) -> list[Compacted]:
    """Make new parts until none is worth making: what one holds others need not, and may then be joined."""
    made: list[Compacted] = []
    while new := _round(
        feature_set, part_clips, {part.part_id for part in made}, watch, dry_run=dry_run
    ):
        made += new
        if dry_run:
            break
    return made


def _round(
    feature_set: FeatureSet, part_clips: int, tried: set[str], watch: Watch, *, dry_run: bool
) -> list[Compacted]:
    """Make the parts that are worth making as things are now, but those that were tried."""
    plan = Plan(feature_set, part_clips)
    units = [unit for unit in plan.units() if unit.part_id not in tried]
    copied = CopiedPart(feature_set, plan, feature_set._reader.parts, watch)
    rows = plan.index.rows
    made = []
    for unit in units:
        row_bytes = {part: _row_bytes(plan, part, unit.layers) for part in unit.sources}
        n_bytes = sum(int(row["n_rows"]) * row_bytes[int(row["part"])] for row in rows[unit.rows])
        watch.expect(0 if dry_run else n_bytes, 0 if dry_run else 1)
        spec = feature_set.spec
        made.append(
            Compacted(
                spec.modality, spec.name, unit.part_id, len(unit.rows), len(unit.sources), n_bytes
            )
        )
    if not dry_run:
        for number, unit in enumerate(units):
            try:
                copied.write(unit)
            except StoreDamagedError as error:
                made[number] = replace(made[number], n_bytes=0, problem=str(error))
            watch.add(0, 1)
        feature_set.forget()
    return made


def _row_bytes(plan: Plan, part: int, layers: tuple[int | str, ...]) -> int:
    arrays = plan.index.parts[part].arrays
    return sum(arrays[str(layer)].row_bytes for layer in layers if str(layer) in arrays)
