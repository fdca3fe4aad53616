"""The index: a derived table that answers for every clip without reading the commit records."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_store.layers import Layer, layer_from_name, sort_layers
from mer_store.store.asked import Asked, ClipIds
from mer_store.store.index_rows import (
    Rows,
    decoded,
    first_of_clip,
    in_order,
    joined,
    reasons_text,
    rows_of,
    same_ids,
)
from mer_store.store.ledger import Ledger, Status
from mer_store.store.record import CommitRecord
from mer_store.store.shard import ArrayInfo

#: Clips looked up at once: what is made of them on the way stays small.
_FIND_BLOCK = 1 << 14
#: Of one row in so many on, going through all rows in order takes less time than picking some.
_MANY = 8


@dataclass(frozen=True)
class PartInfo:
    """What a reader needs of a part."""

    part_id: str
    attempt: int
    layers: tuple[Layer, ...]
    tables: tuple[str, ...]
    arrays: Mapping[str, ArrayInfo]

    @property
    def served_names(self) -> tuple[str, ...]:
        """Names under which the part's ok clips have something: ``18``, ``images/``."""
        return (*map(str, self.layers), *(f"{table}/" for table in self.tables))

    def to_values(self) -> dict[str, Any]:
        """Return JSON values."""
        arrays = {
            name: [info.shape, info.dtype, info.chunk_rows] for name, info in self.arrays.items()
        }
        layers = [str(layer) for layer in self.layers]
        return {"id": self.part_id, "attempt": self.attempt, "layers": layers, "arrays": arrays}

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> "PartInfo":
        """Read what `to_values` gave."""
        arrays = {name: ArrayInfo(tuple(i[0]), i[1], i[2]) for name, i in values["arrays"].items()}
        layers = tuple(layer_from_name(name) for name in values["layers"])
        return cls(values["id"], values["attempt"], layers, _tables(arrays), arrays)

    @classmethod
    def of(cls, record: CommitRecord) -> "PartInfo":
        """Take what a reader needs from a record."""
        return cls(record.part_id, record.attempt, record.layers, record.tables, record.arrays)


def _tables(arrays: Mapping[str, ArrayInfo]) -> tuple[str, ...]:
    return tuple(sorted({name.rpartition("/")[0] for name in arrays} - {""}))


@dataclass(frozen=True)
class Index:
    """All parts' ledgers, merged by the rule for duplicates.

    Of a clip's ledger rows that have a digest, the one of the highest attempt, then of the lowest part id,
    says what the clip's current digest is; a layer is served from the row of the highest attempt, then of
    the lowest part id, that is ok, has that digest and that layer.
    """

    parts: tuple[PartInfo, ...]
    """Sorted by part id; rows name a part by its place here."""
    rows: Rows
    hashes: NDArray[np.uint64]
    """[clips], ascending."""
    first: NDArray[np.int64]
    """[clips]: the deciding row."""
    attempt: NDArray[np.int32]
    """[clips]: the highest attempt of any row."""
    status: NDArray[np.uint8]
    """[clips] of `Status`."""
    served: NDArray[np.int32]
    """[served names, clips]: the row that serves the layer or table, or -1."""
    names: tuple[str, ...]
    """Layers as text, then tables with a slash."""
    reasons_text: NDArray[np.uint8]
    saved_order: NDArray[np.int32] | None = None
    """[clips]: what `by_id` was when the index was saved, if it was; used only where it is right."""
    _fields: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def build(cls, records: Sequence[CommitRecord], known: "Index | None" = None) -> "Index":
        """Merge `records` into what is `known`, which must not hold any of them."""
        old = known.parts if known is not None else ()
        infos = [*old, *map(PartInfo.of, records)]
        order = sorted(range(len(infos)), key=lambda n: infos[n].part_id)
        number = np.empty(len(infos), dtype=np.int32)
        number[order] = np.arange(len(infos))
        reasons = {text: n for n, text in enumerate(known.reasons)} if known is not None else {}
        pieces = [known.rows] if known is not None else []
        pieces += [rows_of(record, len(old) + n, reasons) for n, record in enumerate(records)]
        rows = joined(pieces)
        rows["part"] = number[rows["part"]]
        return cls._merge(tuple(infos[n] for n in order), in_order(rows), tuple(reasons))

    @classmethod
    def _merge(cls, parts: tuple[PartInfo, ...], rows: Rows, reasons: Sequence[str]) -> "Index":
        first = first_of_clip(rows)
        clip = np.repeat(np.arange(len(first)), np.diff([*first, len(rows)]))
        deciding = rows[first]
        serving = (rows["status"] == Status.OK) & (rows["digest"] == deciding["digest"][clip])
        status = deciding["status"].copy()
        status[clip[serving]] = Status.OK
        names = _served_names(parts)
        served = np.full((len(names), len(first)), -1, dtype=np.int32)
        for number, name in enumerate(names):
            has_name = np.array([name in part.served_names for part in parts], dtype=bool)
            found = np.flatnonzero(serving & has_name[rows["part"]])[::-1]
            served[number, clip[found]] = (
                found  # of a clip's several rows the last one written is the first
            )
        attempt = (
            np.maximum.reduceat(rows["attempt"], first) if len(first) else np.zeros(0, np.int32)
        )
        return cls(
            parts, rows, deciding["hash"].copy(), first.astype(np.int64), attempt, status, served, names,
            reasons_text(reasons),
        )  # fmt: skip

    @cached_property
    def reasons(self) -> list[str]:
        """Texts that rows name by number."""
        return list(json.loads(self.reasons_text.tobytes()))

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Layers that any part holds, numbers before names."""
        return tuple(layer_from_name(name) for name in self.names if not name.endswith("/"))

    def find(self, clip_ids: ClipIds) -> NDArray[np.int64]:
        """Return each clip's number, -1 where no part speaks of it."""
        asked = Asked.of(clip_ids)
        found = np.empty(len(asked), dtype=np.int64)
        found[asked.place] = self.find_sorted(asked)
        return found

    def find_sorted(self, asked: Asked) -> NDArray[np.int64]:
        """Return the number of each of ``asked.ids``, -1 where no part speaks of it."""
        found = np.full(len(asked), -1, dtype=np.int64)
        for start in range(0, len(asked) if len(self.first) else 0, _FIND_BLOCK):
            block = slice(start, start + _FIND_BLOCK)
            self._find(asked.ids[block], asked.hashes[block], found[block])
        return found

    def _find(
        self, ids: NDArray[np.str_], wanted: NDArray[np.uint64], found: NDArray[np.int64]
    ) -> None:
        """Note in `found` the number of each clip that is there."""
        place = np.arange(len(ids))
        number = np.searchsorted(self.hashes, wanted)
        while len(wanted):
            fits = number < len(self.hashes)
            fits[fits] = self.hashes[number[fits]] == wanted[fits]
            if not fits.all():
                number, ids, wanted, place = number[fits], ids[fits], wanted[fits], place[fits]
            same = same_ids(self.rows["clip_id"][self.first[number]], ids)
            found[place[same]] = number[same]
            other = ~same
            number, ids, wanted, place = number[other] + 1, ids[other], wanted[other], place[other]

    @cached_property
    def by_id(self) -> NDArray[np.int32]:
        """[clips]: their numbers, sorted by id."""
        ids = self.rows["clip_id"][self.first]  # UTF-8 sorts as the text does
        saved = self.saved_order
        if saved is not None and (saved >= 0).all() and (saved < len(ids)).all():
            there = ids[saved]
            if (there[1:] > there[:-1]).all():  # so each of them is there, once
                return saved
        return np.argsort(ids).astype(np.int32)

    @cached_property
    def ok_clips(self) -> NDArray[np.int32]:
        """Numbers of the clips that have features at any layer, sorted by id."""
        numbers: NDArray[np.int32] = self.by_id[self.status[self.by_id] == Status.OK]
        return numbers

    @cached_property
    def ok_ids(self) -> tuple[str, ...]:
        """Their ids."""
        return tuple(self.ids(self.ok_clips).tolist())

    def ids(self, numbers: NDArray[np.integer]) -> NDArray[np.str_]:
        """Return the ids of clips given by number."""
        return decoded(self.rows["clip_id"][self.first[numbers]])

    def column(self, name: str) -> NDArray[np.int32]:
        """Return [clips]: the row that serves a layer or table (``18``, ``images/``), -1 where none does."""
        if name not in self.names:
            return np.full(len(self.first), -1, dtype=np.int32)
        column: NDArray[np.int32] = self.served[self.names.index(name)]
        return column

    def of_rows(self, name: str, rows: NDArray[np.integer]) -> NDArray[Any]:
        """Return one field of some rows, where they are many out of a copy of that field alone."""
        alone = self._fields.get(name)
        if alone is None:
            alone = self.rows[name]
            if rows.size * _MANY > len(alone):
                alone = self._fields[name] = np.ascontiguousarray(alone)
        found: NDArray[Any] = alone[rows]
        return found

    def ledger(self, clip_ids: Sequence[str]) -> Ledger:
        """Return what became of each of `clip_ids`."""
        ledger = Ledger.empty(clip_ids)
        number = self.find(clip_ids)
        there = np.flatnonzero(number >= 0)
        number = number[there]
        deciding = self.rows[self.first[number]]
        ledger.status[there] = self.status[number]
        ledger.attempt[there] = self.attempt[number]
        ledger.n_bytes[there] = deciding["n_bytes"]
        ledger.mtime_ns[there] = deciding["mtime_ns"]
        digests = decoded(deciding["digest"]).astype(object)
        digests[digests == ""] = None
        ledger.digest[there] = digests
        for row, reason in zip(there, self._reasons(number, deciding), strict=True):
            ledger.reasons[row] = reason
        layer_status = np.zeros((len(clip_ids), len(self.layers)), dtype=np.uint8)
        layer_status[there] = self.layer_status[:, number].T
        return Ledger(**vars(ledger) | {"layers": self.layers, "layer_status": layer_status})

    @cached_property
    def layer_status(self) -> NDArray[np.uint8]:
        """[layers, clips] of `Status`: what became of each layer at each clip's current digest.

        A failure without a digest (the file was gone) counts as one of the current bytes.
        """
        clip = np.repeat(np.arange(len(self.first)), np.diff([*self.first, len(self.rows)]))
        digest = self.rows["digest"]
        current = (digest == digest[self.first][clip]) | (digest == b"")
        failing = np.flatnonzero(current & (self.rows["status"] != Status.OK))[::-1]
        statuses = np.full((len(self.layers), len(self.first)), Status.MISSING, dtype=np.uint8)
        for number, layer in enumerate(self.layers):
            has_layer = np.array([layer in part.layers for part in self.parts], dtype=bool)
            rows = failing[has_layer[self.rows["part"][failing]]]
            statuses[number, clip[rows]] = self.rows["status"][
                rows
            ]  # the first row is written last
            statuses[number, self.served[number] >= 0] = Status.OK
        return statuses

    def _reasons(self, number: NDArray[np.int64], deciding: Rows) -> list[str | None]:
        texts = np.array([*self.reasons, None], dtype=object)
        has_none = self.status[number] == Status.OK
        reasons: list[str | None] = texts[np.where(has_none, -1, deciding["reason"])].tolist()
        return reasons


def _served_names(parts: Sequence[PartInfo]) -> tuple[str, ...]:
    layers = sort_layers(layer for part in parts for layer in part.layers)
    tables = sorted({table for part in parts for table in part.tables})
    return (*map(str, layers), *(f"{table}/" for table in tables))
