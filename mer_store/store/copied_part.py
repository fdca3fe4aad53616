"""Writing a part of rows that lie in others: copied by bytes, checked on the way in and on the way out."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mer_store.errors import StoreDamagedError
from mer_store.store.clip_checks import CLIP_CHECKS, check_of
from mer_store.store.commit import publish, read_record, stage
from mer_store.store.compact_plan import Plan, Unit
from mer_store.store.feature_set import FeatureSet
from mer_store.store.layout import Folders, writing
from mer_store.store.ledger import Status
from mer_store.store.ledger_row import LedgerRow
from mer_store.store.part_files import OFFSETS, PartFiles
from mer_store.store.part_reader import Parts
from mer_store.store.record import CommitRecord
from mer_store.store.row_contents import RowContents
from mer_store.store.shard_reader import ShardReader
from mer_store.store.watch import Watch

_MAX_LINE_CHARS = 1000
Arrays = Mapping[str, NDArray[np.generic]]


class CopiedPart:
    """Makes one new part of a plan.

    Parameters
    ----------
    feature_set
        Where it belongs.
    plan
        Of the feature set as it was when the plan was made; all is read as it was then.
    parts
        Opens what the plan's index names.
    watch
        Told of bytes.
    """

    def __init__(self, feature_set: FeatureSet, plan: Plan, parts: Parts, watch: Watch) -> None:
        self._spec = feature_set.spec
        self._folders = Folders(feature_set.path)
        self._index, self._duties, self._parts = plan.index, plan.duties, parts
        self._contents = RowContents(plan.index, parts)
        self._watch = watch

    def write(self, unit: Unit) -> CommitRecord:
        """Write and commit a part; one that is there already is left as it is.

        Raises
        ------
        StoreDamagedError
            What is to be copied is damaged; nothing was committed.
        StoreFullError
            The disk is full; likewise.
        """
        there = read_record(self._folders, unit.part_id)
        if there is not None:
            return there
        with writing(self._folders.path):
            staged = stage(self._folders)
        files = PartFiles(
            staged,
            unit.layers,
            self._spec.stored_dtype,
            one_row=self._spec.level == "utterance",
        )
        try:
            with writing(self._folders.path):
                ledger = self._ledger(unit)
                checks = self._copy(unit, files)
                record = files.finish(
                    self._spec.fingerprint, unit.part_id, unit.attempt, ledger, self._versions(unit)
                )
                self._check(staged, record, checks)
                return publish(self._folders, staged, record)
        finally:
            files.abandon()
            shutil.rmtree(staged, ignore_errors=True)

    def _copy(self, unit: Unit, files: PartFiles) -> list[list[int]]:
        """Copy the rows of every ok clip; return [clips][layers] their checksums."""
        checks = []
        rows = self._index.rows[unit.rows]
        wide = self._wide(unit)
        for row in rows[rows["status"] == Status.OK]:
            part, start = int(row["part"]), int(row["row_start"])
            stop = start + int(row["n_rows"])
            arrays = [self._contents.rows(part, str(n), start, stop) for n in unit.layers]
            clip_id = row["clip_id"].decode()
            staged = files.stage(clip_id, arrays)
            tables = {name[:-1]: self._table(part, name, row) for name in unit.tables}
            files.append(clip_id, arrays, wide, tables, staged=staged is not None)
            checks.append([check_of([array.tobytes()]) for array in arrays])
            self._watch.add(sum(array.nbytes for array in arrays), 0)
        return checks

    def _wide(self, unit: Unit) -> list[int | str]:
        """Return the layers that are float32 in the parts copied from and would be float16 in a new one."""
        infos = [self._index.parts[part].arrays for part in unit.sources]
        stored = np.dtype(self._spec.stored_dtype)
        return [
            layer
            for layer in unit.layers
            if any(np.dtype(i[str(layer)].dtype) != stored for i in infos if str(layer) in i)
        ]

    def _table(self, part: int, name: str, row: np.void) -> Arrays:
        """Read a clip's rows of a side table: column -> [n] or [n, k]."""
        offsets = self._parts.offsets(part, name, verify=True)
        start, stop = offsets[row["clip_row"]].item(), offsets[row["clip_row"] + 1].item()
        columns = [c for c in self._index.parts[part].arrays if c.startswith(name)]
        return {
            column.removeprefix(name): self._contents.rows(part, column, start, stop)
            for column in sorted(columns)
            if column != name + OFFSETS
        }

    def _ledger(self, unit: Unit) -> tuple[LedgerRow, ...]:
        """Return what the rows say, each clip's size and time as the row says that decided them so far."""
        rows = self._index.rows[unit.rows]
        deciding = self._index.rows[self._duties.tied_to_deciding(unit.rows)]
        reasons = self._index.reasons
        return tuple(
            LedgerRow(
                row["clip_id"].decode(),
                Status(int(row["status"])).name.lower(),
                reasons[row["reason"]] if row["reason"] >= 0 else None,
                int(row["n_rows"]),
                row["digest"].decode() or None,
                _known(first["n_bytes"]),
                _known(first["mtime_ns"]),
            )
            for row, first in zip(rows, deciding, strict=True)
        )

    def _versions(self, unit: Unit) -> dict[str, str]:
        """Return every version that any of the parts was made with."""
        found: dict[str, set[str]] = {}
        for part in unit.sources:
            name = self._index.parts[part].part_id
            record = read_record(self._folders, name)
            if record is None:
                raise StoreDamagedError(
                    f"{self._folders.commit(name)}: vanished while it was copied; run the command again"
                )
            for package, version in record.versions.items():
                found.setdefault(package, set()).update(version.split(", "))
        joined = {package: ", ".join(sorted(versions)) for package, versions in found.items()}
        return {package: text[:_MAX_LINE_CHARS] for package, text in joined.items()}

    def _check(self, staged: Path, record: CommitRecord, checks: list[list[int]]) -> None:
        """Compare what was written with what was read."""
        if not checks:
            return
        reader = ShardReader(staged, CLIP_CHECKS, record.arrays[CLIP_CHECKS])
        written = np.empty(reader.info.shape, np.uint32)
        reader.read(written, verify=True)
        if (written != np.array(checks, np.uint32)).any():
            raise StoreDamagedError(
                f"{staged}: the rows written differ from those read: memory or disk fails, or the parts "
                f"hold numbers that are not finite; run `mer-store verify --deep`"
            )


def _known(value: np.int64) -> int | None:
    return None if value < 0 else int(value)
