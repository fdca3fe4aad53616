"""A part whose clips have hashed names: the same files, a record of its own."""

from dataclasses import replace

import msgspec

from mer_store.clips.hashed_ids import IdKey
from mer_store.remote.subset import Subset, group_text
from mer_store.store.commit import GROUP_FILE, with_group_file
from mer_store.store.ledger_row import LedgerRow
from mer_store.store.record import part_id

#: Key in a record's versions: which key hashed the names.
HASHED_BY = "mer-store.hashed-ids"
#: Versions that may say more than a version: other parts are named by clips, too.
_TOLD = "mer-store."


def renamed(part: Subset, key: IdKey) -> Subset:
    """Return a part with hashed names, digests that cannot be compared with media, and reasons cut short.

    A reason keeps what stands before its first colon, if that holds no name: what follows may quote a path.
    The times of files are left out.
    """
    source = part.record
    ledger = tuple(_row(row, key) for row in source.ledger)
    files = {path: facts for path, facts in source.files.items() if path != GROUP_FILE}
    versions = {name: text for name, text in source.versions.items() if not name.startswith(_TOLD)}
    record = replace(
        source,
        part_id=part_id(
            source.fingerprint, (row.clip_id for row in ledger), source.layers, source.attempt
        ),
        ledger=ledger,
        files=files,
        versions={**versions, HASHED_BY: key.name},
    )
    text = group_text(record)
    return Subset(part.source, with_group_file(record, text), part.made | {GROUP_FILE: text})


def _row(row: LedgerRow, key: IdKey) -> LedgerRow:
    reason = row.reason
    if reason is not None:
        head = reason.partition(":")[0]
        told = "/" in head or row.clip_id in head
        reason = f"{row.status} (not told)" if told else head
    return msgspec.structs.replace(
        row,
        clip_id=key.hash_id(row.clip_id),
        reason=reason,
        digest=None if row.digest is None else key.hash_digest(row.digest),
        mtime_ns=None,
        n_bytes=None,
    )
