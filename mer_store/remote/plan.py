"""What has to move: the parts that the other side has and this one lacks."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mer_store.clips.hashed_ids import IdKey
from mer_store.errors import StoreDamagedError, UsageError
from mer_store.layers import Layer
from mer_store.remote.layout import Listing, SetKey
from mer_store.remote.selection import Selection
from mer_store.remote.side import Side
from mer_store.remote.span_reader import REQUEST_BYTES
from mer_store.spec import Spec
from mer_store.store.feature_set import FeatureSet
from mer_store.store.record import CommitRecord, part_id


@dataclass(frozen=True)
class Step:
    """One part to move, or a piece of it."""

    key: SetKey
    record: CommitRecord
    """Of the part as the other side has it."""
    layers: tuple[Layer, ...] | None = None
    """Only these layers of it; None is all."""
    clip_ids: tuple[str, ...] | None = None
    """Only these clips of it, by ranges; None is all."""

    def made_id(self, id_key: IdKey | None = None) -> str:
        """Return the id of the part that this step makes."""
        record = self.record
        ids = [row.clip_id for row in record.ledger] if self.clip_ids is None else self.clip_ids
        if id_key is None and self.layers is None and self.clip_ids is None:
            return record.part_id
        ids = [id_key.hash_id(clip_id) for clip_id in ids] if id_key else ids
        return part_id(record.fingerprint, ids, self.layers or record.layers, record.attempt)

    @property
    def n_clips(self) -> int:
        """Clips that move, whatever became of them."""
        return len(self.record.ledger if self.clip_ids is None else self.clip_ids)

    @property
    def n_bytes(self) -> int:
        """About so many bytes move."""
        layers = self.record.layers if self.layers is None else self.layers
        if self.clip_ids is not None:
            return picked_bytes(self.record, layers, self.clip_ids)
        dropped = {str(layer) for layer in self.record.layers if layer not in layers}
        return sum(
            facts.n_bytes
            for path, facts in self.record.files.items()
            if path.split("/", maxsplit=1)[0] not in dropped
        )


@dataclass(frozen=True)
class Plan:
    """All steps, and what was found on the way."""

    specs: dict[SetKey, Spec]
    steps: tuple[Step, ...]
    n_parts_there: int
    """Parts wanted, on the other side."""
    problems: tuple[str, ...] = ()
    """Records that cannot be used."""
    notes: tuple[str, ...] = ()
    """What a person may want to know of how it is done."""

    @property
    def n_bytes(self) -> int:
        """Bytes to move."""
        return sum(step.n_bytes for step in self.steps)

    @property
    def n_clips(self) -> int:
        """Clips to move, once a part."""
        return sum(step.n_clips for step in self.steps)


def make_plan(
    side: Side,
    here: Listing,
    selection: Selection,
    requests: ThreadPoolExecutor,
    held: dict[SetKey, FeatureSet] | None = None,
    id_key: IdKey | None = None,
) -> Plan:
    """Plan to bring here what `side` has.

    A part is known by its name: only records of parts that are not here are read, unless names are hashed.

    Parameters
    ----------
    side
        Where parts are.
    here
        Parts that are here.
    selection
        What is wanted.
    requests
        Reads records, several at once.
    held
        Feature sets here, where pieces of parts that they hold already need not come again.
    id_key
        Where clips are to have hashed names here.

    Raises
    ------
    UsageError
        Nothing there fits the selection, or a layer is asked for that nothing there holds.
    """
    there = side.listing()
    specs = {key: side.spec(key) for key in sorted(there)}
    specs = {key: spec for key, spec in specs.items() if selection.fits(spec)}
    if not specs:
        have = "".join(f"\n  {modality}/{name}" for modality, name in sorted(there)) or " nothing"
        raise UsageError(f"{side.label}: no feature set fits what was asked for. There is:{have}")
    problems: list[str] = []
    notes: list[str] = []
    steps: list[Step] = []
    for key in specs:
        known = here.get(key, frozenset())
        lacking = sorted(there[key] if id_key else there[key] - known)
        records = list(_records(side, key, lacking, requests, problems))
        if selection.cuts_parts:
            own = (held or {}).get(key)
            if not records and own is not None:
                continue
            cut = _cut(side, key, records, selection, own, notes)
        else:
            cut = [Step(key, record) for record in records]
        steps += [step for step in cut if step.made_id(id_key) not in known]
    n_there = sum(len(there[key]) for key in specs)
    return Plan(specs, tuple(steps), n_there, tuple(problems), tuple(notes))


def _records(
    side: Side,
    key: SetKey,
    part_ids: Iterable[str],
    requests: ThreadPoolExecutor,
    problems: list[str],
) -> Iterable[CommitRecord]:
    for future in [requests.submit(side.record, key, name) for name in part_ids]:
        try:
            yield future.result()
        except StoreDamagedError as error:
            problems.append(str(error))


def _cut(
    side: Side,
    key: SetKey,
    records: list[CommitRecord],
    selection: Selection,
    own: FeatureSet | None,
    notes: list[str],
) -> Iterable[Step]:
    """Yield what is wanted of each part and not here."""
    here = own.layers if own is not None else ()
    wanted = selection.layers_among(records, f"{side.label}: {key[0]}/{key[1]}", here)
    n_whole = n_picked = 0
    for record in records:
        clip_ids = selection.clips_of(record)
        layers = tuple(layer for layer in record.layers if layer in wanted)
        if not clip_ids or not layers or _is_held(own, record, layers, clip_ids):
            continue
        kept = None if layers == record.layers else layers
        step = Step(key, record, kept)
        if len(clip_ids) < len(record.ledger):
            picked = Step(key, record, kept, clip_ids)
            n_ranges = len(layers) * len(clip_ids)
            if picked.n_bytes + n_ranges * REQUEST_BYTES < step.n_bytes:
                step = picked
                n_picked += 1
            else:
                n_whole += 1
        yield step
    if n_whole or n_picked:
        notes.append(
            f"{key[0]}/{key[1]}: {n_picked} parts by ranges of clips; {n_whole} by whole layer "
            f"files, which is cheaper for so many of their clips"
        )


def _is_held(
    own: FeatureSet | None,
    record: CommitRecord,
    layers: tuple[Layer, ...],
    clip_ids: tuple[str, ...],
) -> bool:
    """Tell whether all that is wanted of a part is served here already, from the same media."""
    if own is None:
        return False
    ledger = own.ledger(clip_ids)
    rows = {row.clip_id: row for row in record.ledger}
    has: NDArray[np.bool_] = np.all(ledger.has(layers), axis=1)
    for number, clip_id in enumerate(clip_ids):
        row = rows[clip_id]
        if ledger.attempt[number] < record.attempt or (
            row.status == "ok" and (not has[number] or ledger.digest[number] != row.digest)
        ):
            return False
        if row.status != "ok" and not ledger.status[number]:
            return False
    return True


def picked_bytes(record: CommitRecord, layers: tuple[Layer, ...], clip_ids: Iterable[str]) -> int:
    """Return the bytes of the rows of some clips in some layers of a part."""
    wanted = set(clip_ids)
    n_rows = sum(row.n_rows for row in record.ledger if row.clip_id in wanted)
    return n_rows * sum(
        record.arrays[str(layer)].row_bytes for layer in layers if str(layer) in record.arrays
    )
