"""The text of a commit record, as it is nearly always: written by us, and read in a twentieth of the time."""

from typing import Any

import msgspec

from mer_store.store.ledger_row import LedgerRow
from mer_store.strict_json import MAX_VALUES


class _Text(msgspec.Struct, forbid_unknown_fields=True):
    """A record's members, in the order that we write them in."""

    format: int
    fingerprint: str
    part_id: str
    attempt: int
    layers: list[Any]
    clip_ids: list[str]
    arrays: dict[str, Any]
    files: dict[str, Any]
    versions: dict[str, Any]
    ledger: list[LedgerRow]


_DECODER = msgspec.json.Decoder(_Text)
_ENCODER = msgspec.json.Encoder()


def read_plain(text: bytes) -> dict[str, Any] | None:
    """Return the members of a record; None for a text that needs a careful look.

    What was read, written again, must give the very same text: so no key stood twice, nothing was left out,
    and there is one way to read it.
    """
    if text.count(b",") > MAX_VALUES:
        return None
    try:
        found = _DECODER.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if _ENCODER.encode(found) + b"\n" != text:
        return None
    return {name: getattr(found, name) for name in found.__struct_fields__}
