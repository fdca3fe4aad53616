"""A row of a part's ledger: what became of one clip. Rows are checked column by column, as they are many."""

import re
import reprlib
from operator import itemgetter
from typing import Any

import msgspec

from mer_store.store.record_rules import MAX_ROWS, count_of, line_of, refuse

STATUSES = frozenset({"ok", "failed", "empty"})
MAX_CLIP_ID_BYTES = 255
MAX_DIGEST_CHARS = 128
MAX_REASON_CHARS = 1000
#: Sizes and times are stored as signed numbers of 64 bits.
_LIMIT = 1 << 63
_DIGEST = re.compile(rf"[!-~]{{1,{MAX_DIGEST_CHARS}}}")
_NONE = type(None)


class LedgerRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
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


_FIELDS = LedgerRow.__struct_fields__
_values_of = itemgetter(*_FIELDS)


def read_rows(values: list[Any]) -> tuple[LedgerRow, ...]:
    """Return rows, of JSON objects or of rows that were not checked.

    Raises
    ------
    ValueError, KeyError, TypeError
        One of them is no ledger row.
    """
    if {LedgerRow}.issuperset(map(type, values)):
        rows = tuple(values)
    else:
        rows = tuple(LedgerRow(*_values_of(row)) for row in values)
        if set(map(len, values)) != {len(_FIELDS)}:
            refuse("a ledger row has fields that none has")
    if rows and not _all_valid(rows):
        for row in rows:
            _check(row)
    return rows


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


def _all_valid(rows: tuple[LedgerRow, ...]) -> bool:
    """Tell whether `_check` passes every row, in a tenth of its time. Where not sure, say no."""
    statuses, n_rows = [row.status for row in rows], [row.n_rows for row in rows]
    kinds = set(statuses)
    if not STATUSES.issuperset(kinds) or set(map(type, n_rows)) != {int}:
        return False
    if min(n_rows) < 0 or max(n_rows) >= MAX_ROWS:
        return False
    if kinds != {"ok"} and any(row.n_rows and row.status != "ok" for row in rows):
        return False
    for reason in {row.reason for row in rows} - {None}:
        line_of(reason, MAX_REASON_CHARS)
    return (
        _are_words([row.clip_id for row in rows], MAX_CLIP_ID_BYTES)
        and _are_words([row.digest for row in rows if row.digest is not None], MAX_DIGEST_CHARS)
        and _are_within([row.n_bytes for row in rows], 0)
        and _are_within([row.mtime_ns for row in rows], 1 - _LIMIT)
    )


def _are_words(words: list[Any], max_chars: int) -> bool:
    """Tell whether all are printable ASCII without space, neither empty nor too long."""
    if not words:
        return True
    if set(map(type, words)) != {str}:
        return False
    joined, lengths = "".join(words), set(map(len, words))
    is_plain = joined.isascii() and joined.isprintable() and " " not in joined
    return is_plain and min(lengths) >= 1 and max(lengths) <= max_chars


def _are_within(numbers: list[Any], low: int) -> bool:
    """Tell whether all are None or whole numbers from `low` to below 2**63."""
    if not {int, _NONE}.issuperset(map(type, numbers)):  # True is no number, though it equals 1
        return False
    known = set(numbers) - {None}
    return not known or (low <= min(known) and max(known) < _LIMIT)


def _check(row: LedgerRow) -> None:
    if row.status not in STATUSES or not is_valid_clip_id(row.clip_id):
        _refuse(row, "clip_id or status")
    if row.digest is not None and not is_valid_digest(row.digest):
        _refuse(row, "digest")
    if row.reason is not None:
        line_of(row.reason, MAX_REASON_CHARS)
    if row.n_bytes is not None:
        count_of(row.n_bytes, _LIMIT)
    if row.mtime_ns is not None and (type(row.mtime_ns) is not int or abs(row.mtime_ns) >= _LIMIT):
        _refuse(row, "mtime_ns")
    if count_of(row.n_rows) and row.status != "ok":
        _refuse(row, "n_rows")


def _refuse(row: LedgerRow, what: str) -> None:
    refuse(f"ledger row of clip {reprlib.repr(row.clip_id)}: {what}")
