"""Repairing a store: what is broken is moved out of the way, so that it is made or fetched again."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mer_store.layers import Layer, sort_layers
from mer_store.store.finding import Finding, Scope
from mer_store.store.layout import Folders, writing
from mer_store.store.ledger import Status
from mer_store.store.quarantine import (
    STRAY,
    finish,
    known_record,
    move,
    move_part,
    room,
    unfinished,
    whole,
)
from mer_store.store.store import Store
from mer_store.store.strays import feature_set_folders, store_path


@dataclass(frozen=True, slots=True)
class Moved:
    """Something that was moved out of the way, or would be."""

    scope: Scope
    modality: str
    feature_set: str
    """Name of its folder; empty for what lies outside of any."""
    part_id: str
    """Empty where it is no part's."""
    paths: tuple[str, ...]
    """What was found broken or stray, relative to the feature set or, without one, to the store."""
    problems: tuple[str, ...]
    layers: tuple[Layer, ...] = ()
    """Of a part: the layers it held; unknown where its record cannot be read."""
    clip_ids: tuple[str, ...] = ()
    """Of a part: the clips of its ledger."""
    to: str = ""
    """Where it is now, relative to the store."""
    recovered: bool = False
    """The part itself was whole: its record was made anew, and nothing is lost."""
    refused: str | None = None
    """Why it is still there."""


@dataclass(frozen=True, slots=True)
class Lost:
    """What a feature set lacks since parts were moved."""

    modality: str
    feature_set: str
    level: str
    recipe: str
    layers: tuple[Layer, ...]
    clip_ids: tuple[str, ...]


def repair(store: Store, findings: Sequence[Finding], *, dry_run: bool = False) -> list[Moved]:
    """Move everything that `findings` speak of into ``quarantine/``; nothing is deleted.

    Of a part the record goes first, so that no part is ever half visible. Stopped at any point, another call
    finishes, whatever it is given. What this user may not move is told and left.

    Parameters
    ----------
    store
        The store.
    findings
        Of `verify`.
    dry_run
        Only tell.

    Returns
    -------
    list
        What was moved. `lost` tells what there is to be made again.

    Raises
    ------
    UsageError, StoreFullError
        Nothing can be written there.
    """
    groups: dict[tuple[str, str, str, str], list[Finding]] = defaultdict(list)
    gone = {(f.modality, f.feature_set) for f in findings if f.scope == "feature set"}
    bad = {(f.modality, f.feature_set, f.part_id) for f in findings if f.scope == "part"}
    for finding in findings:
        name = (finding.modality, finding.feature_set)
        part = (*name, finding.part_id)
        if (finding.scope != "feature set" and name in gone) or (
            finding.scope == "stray" and part in bad
        ):
            continue  # moved with all that it lies in
        groups[finding.scope, *part].append(finding)
    moves = {"part": _part, "stray": _strays, "feature set": _feature_set}
    with writing(store.path):
        moved = _unfinished(store, dry_run=dry_run)
        for (scope, *_), group in groups.items():
            moved.append(_moved(store, group, moves[scope], dry_run=dry_run))
    return moved


def lost(store: Store, moved: Sequence[Moved]) -> list[Lost]:
    """Return what no other part serves of what was moved, by feature set."""
    found = []
    for feature_set in store.feature_sets():
        spec = feature_set.spec
        parts = [
            part
            for part in moved
            if part.scope == "part"
            and (part.modality, part.feature_set) == (spec.modality, feature_set.path.name)
        ]
        layers: set[Layer] = set()
        clip_ids: set[str] = set()
        for part in parts:
            has = feature_set.ledger(part.clip_ids).of_layers(part.layers)
            lacks = has == Status.MISSING
            layers.update(
                layer for layer, any_ in zip(part.layers, lacks.any(axis=0), strict=True) if any_
            )
            clip_ids.update(np.array(part.clip_ids, dtype=object)[lacks.any(axis=1)].tolist())
        if clip_ids:
            ids = tuple(sorted(clip_ids))
            name = feature_set.path.name
            found.append(
                Lost(spec.modality, name, spec.level, spec.recipe, sort_layers(layers), ids)
            )
    return found


Move = Callable[[Store, Sequence[Finding]], tuple[Path, bool]]


def _moved(store: Store, group: Sequence[Finding], run: Move, *, dry_run: bool) -> Moved:
    """Move what a group of findings speaks of; describe it."""
    first = group[0]
    found = Moved(
        first.scope,
        first.modality,
        first.feature_set,
        first.part_id,
        tuple(finding.path for finding in group),
        tuple(finding.problem for finding in group),
    )
    if first.scope == "part":
        folders = _folders(store, first)
        record = known_record(folders, first.part_id) or whole(folders.part(first.part_id))
        if record is not None:
            clip_ids = tuple(row.clip_id for row in record.ledger)
            found = replace(found, layers=record.layers, clip_ids=clip_ids)
    if dry_run:
        return found
    try:
        to, recovered = run(store, group)
    except PermissionError as error:
        where = error.filename or store_path(store, first)
        return replace(found, refused=f"{where}: belongs to another user, who can repair it")
    return replace(found, to=to.relative_to(store.path).as_posix(), recovered=recovered)


def _folders(store: Store, finding: Finding) -> Folders:
    return Folders(store.path / "features" / finding.modality / finding.feature_set)


def _part(store: Store, group: Sequence[Finding]) -> tuple[Path, bool]:
    folders, part_id = _folders(store, group[0]), group[0].part_id
    to = room(folders.path, part_id)
    # A feature set's folder is named for its spec, whose fingerprint ends the name.
    return to, move_part(folders, part_id, folders.path.name.rpartition("-")[2], to)


def _strays(store: Store, group: Sequence[Finding]) -> tuple[Path, bool]:
    first = group[0]
    home = _folders(store, first).path if first.feature_set else store.path
    to = room(home, first.part_id or STRAY)
    for finding in group:
        path = store_path(store, finding)
        move(path, to / STRAY / path.relative_to(home))
    return to, False


def _feature_set(store: Store, group: Sequence[Finding]) -> tuple[Path, bool]:
    path = store_path(store, group[0])
    to = room(store.path, f"{group[0].modality}-{path.name}")
    move(path, to / path.name)
    return to, False


def _unfinished(store: Store, *, dry_run: bool) -> list[Moved]:
    """Finish what a repair that was stopped left half done."""
    moved = []
    for folder in feature_set_folders(store)[0]:
        folders, fingerprint = Folders(folder.path), folder.feature_set.spec.fingerprint
        left = [(entry.name.partition("-")[0], entry) for entry in unfinished(folders)]
        try:
            done = left if dry_run else finish(folders, fingerprint)
            refused = None
        except PermissionError as error:
            done, refused = left, f"{error.filename}: belongs to another user, who can repair it"
        for part_id, entry in done:
            record = known_record(folders, part_id, entry)
            ids = tuple(row.clip_id for row in record.ledger) if record else ()
            moved.append(
                Moved(
                    "part", folder.modality, folder.name, part_id, (f"parts/{part_id}",),
                    ("an earlier repair was stopped here",), record.layers if record else (), ids,
                    entry.relative_to(store.path).as_posix(), refused=refused,
                )
            )  # fmt: skip
    return moved
