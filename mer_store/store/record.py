"""The commit record: what a part holds, where every clip's rows are, and the digest of every file."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from mer_store.errors import StoreDamagedError
from mer_store.layers import Layer, layer_from_name, sort_layers
from mer_store.store.clip_checks import CLIP_CHECKS
from mer_store.store.layout import FORMAT, PART_ID, is_safe_path
from mer_store.store.shard import DTYPES, ArrayInfo

STATUSES = ("ok", "failed", "empty")
MAX_CLIP_ID_BYTES = 255
#: Rows an array may claim: far above any part, far below what would overflow a size.
MAX_ROWS = 1 << 40
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(r"[!-~]{1,128}")


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """What became of one clip of a part."""

    clip_id: str
    status: str
    """``ok``, ``failed`` or ``empty``."""
    reason: str | None
    """One line; None where the status is ``ok``."""
    n_rows: int
    """Rows in each layer's array; 0 unless ``ok``."""
    digest: str | None
    """Of the clip's bytes; None where they could not be read."""
    n_bytes: int | None
    mtime_ns: int | None


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

    @property
    def clip_ids(self) -> tuple[str, ...]:
        """Clips that own rows, in row order."""
        return tuple(row.clip_id for row in self.ledger if row.status == "ok")

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
        clip_ids = (row.clip_id for row in self.ledger)
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
            "ledger": [
                {
                    "clip_id": row.clip_id,
                    "status": row.status,
                    "reason": row.reason,
                    "n_rows": row.n_rows,
                    "digest": row.digest,
                    "n_bytes": row.n_bytes,
                    "mtime_ns": row.mtime_ns,
                }
                for row in self.ledger
            ],
        }

    def to_json(self) -> str:
        """Return the record's text: equal records have equal texts."""
        return json.dumps(self.to_values(), ensure_ascii=False, separators=(",", ":")) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> "CommitRecord":
        """Read what `to_json` wrote; `where` names the file in errors.

        Raises
        ------
        StoreDamagedError
            The text is no record, or says something no record says (a path that leaves the part, an object
            dtype, rows that do not add up).
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise StoreDamagedError(
                f"{where}: not JSON: {error}; pull or extract this part again"
            ) from error
        return cls.from_values(values, where)

    @classmethod
    def from_values(cls, values: Any, where: str) -> "CommitRecord":
        """Read what `to_values` gave. Raises as `from_json` does."""
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            came = values.get("format") if isinstance(values, dict) else type(values).__name__
            raise StoreDamagedError(
                f"{where}: expected a commit record of format {FORMAT}, got {came!r}"
            )
        try:
            record = _read(values)
            if list(record.clip_ids) != values["clip_ids"]:
                _refuse("clip_ids are not the ledger's ok rows")
            _check(record)
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
    text = json.dumps(key, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def is_valid_clip_id(clip_id: str) -> bool:
    """Tell whether a clip id can be stored: printable text of 1 to 255 bytes in UTF-8."""
    try:
        n_bytes = len(clip_id.encode())
    except UnicodeEncodeError:
        return False
    return 1 <= n_bytes <= MAX_CLIP_ID_BYTES and clip_id.isprintable()


def is_valid_digest(digest: str) -> bool:
    """Tell whether a digest can be stored: 1 to 128 ASCII characters without space."""
    return _DIGEST.fullmatch(digest) is not None


def _refuse(text: str) -> NoReturn:
    raise ValueError(text)


def _read(values: dict[str, Any]) -> CommitRecord:
    return CommitRecord(
        fingerprint=_text(values["fingerprint"]),
        part_id=_text(values["part_id"]),
        attempt=_count(values["attempt"]),
        layers=tuple(layer_from_name(_text(name)) for name in values["layers"]),
        ledger=tuple(_ledger_row(row) for row in values["ledger"]),
        arrays={name: _array_info(info) for name, info in values["arrays"].items()},
        files={path: _file_facts(facts) for path, facts in values["files"].items()},
        versions={_text(name): _text(version) for name, version in values["versions"].items()},
    )


def _ledger_row(values: dict[str, Any]) -> LedgerRow:
    row = LedgerRow(**values)
    if row.status not in STATUSES or not is_valid_clip_id(row.clip_id):
        _refuse(f"ledger row {values}")
    if row.digest is not None and not is_valid_digest(row.digest):
        _refuse(f"ledger row {values}: digest")
    if row.reason is not None and not isinstance(row.reason, str):
        _refuse(f"ledger row {values}: reason")
    for value in (row.n_rows, row.n_bytes or 0, row.mtime_ns or 0):
        if type(value) is not int or abs(value) >= 1 << 63:
            _refuse(f"ledger row {values}: numbers")
    if not 0 <= row.n_rows < MAX_ROWS or (row.n_rows and row.status != "ok"):
        _refuse(f"ledger row {values}: n_rows")
    return row


def _array_info(values: dict[str, Any]) -> ArrayInfo:
    shape = tuple(_count(length) for length in values["shape"])
    if len(shape) not in (1, 2) or values["dtype"] not in DTYPES:
        _refuse(f"array of shape {shape} and dtype {values['dtype']!r}")
    chunk_rows = values["chunk_rows"]
    if chunk_rows is not None and _count(chunk_rows) < 1:
        _refuse("chunk_rows below 1")
    return ArrayInfo(shape, values["dtype"], chunk_rows)


def _file_facts(values: dict[str, Any]) -> FileFacts:
    if not _SHA256.fullmatch(values["sha256"]):
        _refuse(f"sha256 {values['sha256']!r}")
    return FileFacts(_count(values["size"]), values["sha256"])


def _check(record: CommitRecord) -> None:
    """Refuse a record whose pieces do not fit each other."""
    if not PART_ID.fullmatch(record.part_id):
        _refuse(f"part_id {record.part_id!r}")
    if len({row.clip_id for row in record.ledger}) != len(record.ledger):
        _refuse("a clip has two ledger rows")
    for path in (*record.arrays, *record.files):
        if not is_safe_path(path):
            _refuse(f"{path!r} leaves the part")
    n_rows = sum(row.n_rows for row in record.ledger)
    for layer in record.layers if record.clip_ids else ():
        info = record.arrays[str(layer)]
        if info.n_rows != n_rows or len(info.shape) != 2:
            _refuse(f"layer {layer} has shape {info.shape}, the ledger {n_rows} rows")
    checks = record.arrays.get(CLIP_CHECKS)
    shape = (len(record.clip_ids), len(record.layers))
    if checks is not None and (checks.shape, checks.dtype) != (shape, "uint32"):
        _refuse(f"{CLIP_CHECKS} is {checks.dtype} {checks.shape}, expected uint32 {shape}")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _refuse(f"expected text, got {value!r}")


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < MAX_ROWS:
        _refuse(f"expected a count, got {value!r}")
    return value
