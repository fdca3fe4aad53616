"""The commit record: what a part holds, where every clip's rows are, and the digest of every file."""

import hashlib
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from msgspec.structs import asdict

from mer_store.errors import StoreDamagedError
from mer_store.layers import Layer, sort_layers
from mer_store.spec import BYTES, Spec
from mer_store.store.layout import FORMAT
from mer_store.store.ledger_row import LedgerRow, read_rows
from mer_store.store.record_rules import (
    MAX_ROWS,
    check,
    check_caps,
    count_of,
    items_of,
    layer_of,
    line_of,
    refuse,
    text_of,
)
from mer_store.store.record_text import read_plain
from mer_store.store.shard import DTYPES, ArrayInfo
from mer_store.strict_json import compact_json, parse

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Size and SHA-256 of a file of a part."""

    n_bytes: int
    sha256: str

    @classmethod
    def of(cls, data: bytes) -> "FileFacts":
        """Return the facts of a file that holds `data`."""
        return cls(len(data), hashlib.sha256(data).hexdigest())


@dataclass(frozen=True)
class CommitRecord:
    """A part's record. It is a function of the part's folder, so any writer may publish it."""

    fingerprint: str
    part_id: str
    attempt: int
    layers: tuple[Layer, ...]
    ledger: tuple[LedgerRow, ...]
    """One row per clip of the work unit; those that are ``ok`` own rows of the arrays, in this order."""
    arrays: Mapping[str, ArrayInfo]
    files: Mapping[str, FileFacts]
    """Relative path -> facts of every file of the part."""
    versions: Mapping[str, str]

    @cached_property
    def clip_ids(self) -> tuple[str, ...]:
        """Clips that own rows, in row order."""
        return tuple([row.clip_id for row in self.ledger if row.status == "ok"])

    @cached_property
    def n_rows(self) -> int:
        """Rows of each layer's array."""
        return sum([row.n_rows for row in self.ledger])

    @property
    def tables(self) -> tuple[str, ...]:
        """Side tables, e.g. ``images``."""
        return tuple(sorted({name.rpartition("/")[0] for name in self.arrays} - {""}))

    @property
    def n_bytes(self) -> int:
        """Size of all files of the part."""
        return sum(facts.n_bytes for facts in self.files.values())

    def expected_part_id(self) -> str:
        """Return the work key of what the record holds."""
        clip_ids = [row.clip_id for row in self.ledger]
        return part_id(self.fingerprint, clip_ids, self.layers, self.attempt)

    def to_values(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "part_id": self.part_id,
            "attempt": self.attempt,
            "layers": [str(layer) for layer in self.layers],
            "clip_ids": list(self.clip_ids),
            "arrays": {
                name: {
                    "shape": list(info.shape),
                    "dtype": info.dtype,
                    "chunk_rows": info.chunk_rows,
                }
                for name, info in sorted(self.arrays.items())
            },
            "files": {
                path: {"size": facts.n_bytes, "sha256": facts.sha256}
                for path, facts in sorted(self.files.items())
            },
            "versions": dict(sorted(self.versions.items())),
            "ledger": [asdict(row) for row in self.ledger],
        }

    def to_json(self) -> str:
        """Return the record's text: equal records have equal texts."""
        return compact_json(self.to_values()).decode()

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> "CommitRecord":
        """Read what `to_json` wrote; `where` names the file in errors.

        Raises
        ------
        StoreDamagedError
            The text is no record, or says something no record says (a path that leaves the part, an object
            dtype, rows that do not add up).
        """
        data = text.encode() if isinstance(text, str) else text
        try:
            values = read_plain(data) or parse(data)
        except ValueError as error:
            raise StoreDamagedError(
                f"{where}: not JSON: {error}; pull or extract this part again"
            ) from error
        return cls.from_values(values, where)

    @classmethod
    def from_values(cls, values: Any, where: str) -> "CommitRecord":
        """Read what `to_values` gave. Raises as `from_json` does."""
        came = values.get("format") if isinstance(values, dict) else type(values).__name__
        if type(came) is not int or came != FORMAT:
            raise StoreDamagedError(
                f"{where}: expected a commit record of format {FORMAT}, got {reprlib.repr(came)}"
            )
        try:
            check_caps(values)
            record = _read(values)
            if list(record.clip_ids) != values["clip_ids"]:
                refuse("clip_ids are not the ledger's ok rows")
            check(record)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            detail = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise StoreDamagedError(f"{where}: not a valid commit record: {detail}") from error
        return record


def part_id(
    fingerprint: str, clip_ids: Iterable[str], layers: Sequence[Layer], attempt: int
) -> str:
    """Return the work key: whoever does the same work arrives at the same name."""
    names = [str(layer) for layer in sort_layers(layers)]
    key = [fingerprint, sorted(clip_ids), names, attempt]
    return hashlib.sha256(compact_json(key).removesuffix(b"\n")).hexdigest()[:32]


def misfit(record: CommitRecord, spec: Spec) -> str | None:
    """Say why a record is none of a part of `spec`; None where it is one."""
    if record.fingerprint != spec.fingerprint:
        return f"expected a part of spec {spec.fingerprint}, got {record.fingerprint}"
    allowed = {spec.stored_dtype, "float32"} - (
        {"float32"} if spec.stored_dtype == BYTES else set()
    )
    found = {record.arrays[str(layer)].dtype for layer in record.layers if record.clip_ids}
    if not found <= allowed:
        return f"expected layers of {spec.stored_dtype}, got {', '.join(sorted(found - allowed))}"
    n_rows = {row.n_rows for row in record.ledger if row.status == "ok"}
    if spec.level == "utterance" and not n_rows <= {1}:
        return "expected one row a clip, as the spec is of utterance level"
    return None


def _read(values: dict[str, Any]) -> CommitRecord:
    return CommitRecord(
        fingerprint=text_of(values["fingerprint"]),
        part_id=text_of(values["part_id"]),
        attempt=count_of(values["attempt"], 1 << 30),
        layers=tuple(layer_of(name) for name in items_of(values["layers"])),
        ledger=read_rows(items_of(values["ledger"])),
        arrays={name: array_info(**info) for name, info in values["arrays"].items()},
        files={path: _file_facts(facts) for path, facts in values["files"].items()},
        versions={line_of(name): line_of(text) for name, text in values["versions"].items()},
    )


def array_info(shape: Any, dtype: Any, chunk_rows: Any) -> ArrayInfo:
    """Check what a record says of an array. Raises ValueError or TypeError."""
    lengths = tuple(count_of(length) for length in items_of(shape))
    if len(lengths) not in (1, 2) or dtype not in DTYPES:
        refuse(f"array of shape {reprlib.repr(shape)} and dtype {reprlib.repr(dtype)}")
    if chunk_rows is not None and count_of(chunk_rows) < 1:
        refuse("chunk_rows below 1")
    return ArrayInfo(lengths, dtype, chunk_rows)


def _file_facts(values: dict[str, Any]) -> FileFacts:
    if not _SHA256.fullmatch(values["sha256"]):
        refuse(f"sha256 {reprlib.repr(values['sha256'])}")
    return FileFacts(count_of(values["size"], MAX_ROWS), values["sha256"])
