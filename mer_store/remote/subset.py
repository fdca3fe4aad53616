"""A part made of some layers of another: the same files, a record of its own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_store.layers import Layer
from mer_store.store.clip_checks import CLIP_CHECKS
from mer_store.store.commit import ATTRIBUTE, GROUP_FILE, with_group_file
from mer_store.store.metadata import array_metadata, member_metadata, part_metadata, to_text
from mer_store.store.record import CommitRecord, FileFacts, part_id
from mer_store.store.shard import ArrayInfo, crc_bytes, shard_index, shard_path
from mer_store.strict_json import parse

#: Key in a record's versions: the part whose layers these are.
SUBSET_OF = "mer-store.subset-of"


@dataclass(frozen=True)
class Subset:
    """Some layers of a part."""

    source: CommitRecord
    record: CommitRecord
    made: dict[str, bytes]
    """Files that are made here, not fetched: path -> bytes."""


def layer_subset(
    source: CommitRecord, layers: Sequence[Layer], checks: NDArray[np.uint32] | None
) -> Subset:
    """Return the part that holds only `layers` of `source`.

    It is a function of the source and the layers: whoever makes it gets the same bytes and the same id.

    Parameters
    ----------
    source
        The whole part.
    layers
        Some of its layers.
    checks
        [clips, layers]: the source's array `CLIP_CHECKS`, None where it has none.
    """
    kept = tuple(layer for layer in source.layers if layer in set(layers))
    dropped = {str(layer) for layer in source.layers if layer not in kept} | {CLIP_CHECKS}
    arrays = {name: info for name, info in source.arrays.items() if name not in dropped}
    files = {
        path: facts
        for path, facts in source.files.items()
        if path != GROUP_FILE and path.split("/", maxsplit=1)[0] not in dropped
    }
    made: dict[str, bytes] = {}
    if checks is not None:
        columns = [source.layers.index(layer) for layer in kept]
        arrays[CLIP_CHECKS], made = _checks_files(np.ascontiguousarray(checks[:, columns]))
        files |= {path: FileFacts.of(data) for path, data in made.items()}
    clip_ids = (row.clip_id for row in source.ledger)
    record = replace(
        source,
        part_id=part_id(source.fingerprint, clip_ids, kept, source.attempt),
        layers=kept,
        arrays=arrays,
        files=files,
        versions={SUBSET_OF: source.part_id, **source.versions},
    )
    text = group_text(record)
    return Subset(source, with_group_file(record, text), made | {GROUP_FILE: text})


def group_text(record: CommitRecord) -> bytes:
    """Return a part's ``zarr.json``, which holds the record of all other files."""
    return to_text(part_metadata(member_metadata(record.arrays), {ATTRIBUTE: record.to_values()}))


def known_texts(record: CommitRecord) -> dict[str, bytes]:
    """Return the ``zarr.json`` files whose bytes follow from the record: they need not be fetched."""
    others = {path: facts for path, facts in record.files.items() if path != GROUP_FILE}
    members: dict[str, Any] = member_metadata(record.arrays)
    texts = {f"{name}/{GROUP_FILE}": to_text(member) for name, member in members.items()}
    texts[GROUP_FILE] = group_text(replace(record, files=others))
    return {
        path: text for path, text in texts.items() if record.files.get(path) == FileFacts.of(text)
    }


def inner_record(text: bytes, where: str) -> CommitRecord:
    """Return the record that a part's ``zarr.json`` holds, with that file itself added."""
    values = parse(text)["attributes"][ATTRIBUTE]
    return with_group_file(CommitRecord.from_values(values, where), text)


def _checks_files(checks: NDArray[np.uint32]) -> tuple[ArrayInfo, dict[str, bytes]]:
    """Write the array `CLIP_CHECKS` as one shard of one chunk."""
    info = ArrayInfo(checks.shape, "uint32", max(len(checks), 1))
    made = {f"{CLIP_CHECKS}/{GROUP_FILE}": to_text(array_metadata(info))}
    if len(checks):
        data = checks.astype("<u4").tobytes()
        made[shard_path(CLIP_CHECKS, info)] = data + crc_bytes(data) + shard_index(info)
    return info, made
