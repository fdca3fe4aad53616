"""Comparing the ``zarr.json`` texts of a part with its commit record."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from mer_store.store.commit import ATTRIBUTE, GROUP_FILE
from mer_store.store.metadata import (
    array_metadata,
    member_metadata,
    part_metadata,
    unknown_pieces,
)
from mer_store.store.record import CommitRecord
from mer_store.strict_json import compact_json, parse

_LEDGER = b',"ledger":['


def wrong_texts(
    record: CommitRecord, texts: Mapping[str, bytes], record_text: bytes
) -> Iterator[tuple[str, str]]:
    """Yield (path, problem) of the texts that do not say what the record says.

    Parameters
    ----------
    record
        Of the part.
    texts
        Path -> bytes of every ``zarr.json`` that the record names.
    record_text
        What `record` was read from.
    """
    members = member_metadata(record.arrays)
    for name, member in members.items():
        path = f"{name}/{GROUP_FILE}"
        info = record.arrays.get(name)
        if info is not None and info.chunk_rows is None:
            found = _json(texts.get(path))
            if unknown := unknown_pieces(found):
                yield path, f"refused: {', '.join(unknown)}"
                return
            members[name] = found
        elif not _says(texts.get(path), member if info is None else array_metadata(info)):
            yield path, "describes another array than the commit record"
    group = texts.get(GROUP_FILE)
    if group != _group_text(record, record_text, members):
        values = record.to_values()
        values["files"].pop(GROUP_FILE, None)
        if not _says(group, part_metadata(members, {ATTRIBUTE: values})):
            yield GROUP_FILE, "describes another part than the commit record"


def _group_text(record: CommitRecord, record_text: bytes, members: Mapping[str, Any]) -> bytes:
    """Return what the part's own ``zarr.json`` says, if both were written by us.

    The ledger, nearly all of the text, is taken over as it stands in the record's text. Inside JSON strings
    quotes have a backslash in front, so the mark is found nowhere else.
    """
    values = replace(record, ledger=()).to_values() | {"clip_ids": list(record.clip_ids)}
    values["files"].pop(GROUP_FILE, None)
    head = compact_json(part_metadata(members, {ATTRIBUTE: values}))
    ledger = record_text[record_text.find(_LEDGER) :].removesuffix(b"}\n")
    return head.replace(_LEDGER + b"]", ledger, 1)


def _says(text: bytes | None, metadata: Any) -> bool:
    """Tell whether a text is the one we would write, byte for byte or in other words."""
    return text is not None and (text == compact_json(metadata) or _json(text) == metadata)


def _json(text: bytes | None) -> Any:
    try:
        return parse(text or b"")
    except ValueError:
        return None
