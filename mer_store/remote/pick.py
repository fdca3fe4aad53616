"""Some clips of a part on a remote, as a part of their own here."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_store.errors import StoreDamagedError
from mer_store.layers import Layer
from mer_store.remote.part import RemotePart
from mer_store.remote.subset import SUBSET_OF
from mer_store.store.feature_set import FeatureSet
from mer_store.store.part_files import OFFSETS
from mer_store.store.record import CommitRecord
from mer_store.store.shard_file import ChunkDamaged
from mer_store.store.shard_reader import ClipRun
from mer_store.store.writer import ClipRows, PartWriter

Tables = dict[str, dict[str, NDArray[Any]]]
COPIED = ("clip_id", "status", "reason", "digest", "n_bytes", "mtime_ns")


def pick(
    part: RemotePart, feature_set: FeatureSet, layers: Sequence[Layer], clip_ids: Sequence[str]
) -> CommitRecord:
    """Fetch some clips of a part by ranges, check each, and commit them as a part.

    Failures and empty clips are taken over with their reasons.

    Raises
    ------
    StoreDamagedError
        What came is not what was stored.
    """
    record, wanted = part.record, set(clip_ids)
    versions = {SUBSET_OF: record.part_id, **record.versions}
    starts = np.cumsum([0, *(row.n_rows for row in record.ledger)]).tolist()
    chosen = [n for n, row in enumerate(record.ledger) if row.clip_id in wanted]
    ok = {
        n: at for at, n in enumerate(n for n, row in enumerate(record.ledger) if row.status == "ok")
    }
    readers = {layer: part.array(str(layer)) for layer in layers} if record.clip_ids else {}
    for reader in readers.values():
        reader.prefetch([ClipRun(starts[n], record.ledger[n].n_rows) for n in chosen], verify=True)
    try:
        tables = _tables(part, [ok[n] for n in chosen if n in ok])
        with PartWriter(feature_set, layers, record.attempt, versions) as writer:
            for number in chosen:
                row = record.ledger[number]
                rows = {}
                for layer, reader in readers.items():
                    rows[layer] = np.empty((row.n_rows, *reader.info.shape[1:]), reader.dtype)
                    reader.copy(starts[number], rows[layer], verify=True)
                clip = ClipRows(
                    **{name: getattr(row, name) for name in COPIED},
                    layers=rows if number in ok else {},
                    tables=tables.get(ok.get(number, -1), {}),
                )
                added = writer.add(clip)
                if added.status != row.status:
                    raise StoreDamagedError(f"clip {row.clip_id}: {added.reason}")
            return writer.commit()
    except ChunkDamaged as error:
        raise StoreDamagedError(
            f"{error}; run the command again, or `mer-store verify` there"
        ) from error


def _tables(part: RemotePart, clip_rows: Sequence[int]) -> dict[int, Tables]:
    """Return the side tables of clips given by their place among those that are ok."""
    found: dict[int, Tables] = {clip_row: {} for clip_row in clip_rows}
    for table in part.record.tables:
        reader = part.array(f"{table}/{OFFSETS}")
        offsets = np.empty(reader.info.shape, np.int64)
        reader.copy(0, offsets, verify=True)
        if len(offsets) != len(part.record.clip_ids) + 1 or (np.diff(offsets) < 0).any():
            raise StoreDamagedError(
                f"part {part.record.part_id}: {table}/{OFFSETS} are not ascending"
            )
        head = f"{table}/"
        names = [name for name in part.record.arrays if name.startswith(head)]
        for name in sorted(set(names) - {head + OFFSETS}):
            column = part.array(name)
            for clip_row in clip_rows:
                start, end = offsets[clip_row : clip_row + 2].tolist()
                values = np.empty((end - start, *column.info.shape[1:]), column.dtype)
                column.copy(start, values, verify=True)
                found[clip_row].setdefault(table, {})[name.removeprefix(head)] = values
    return found
