"""The files of a part being written: one shard per array, and the texts any Zarr reader needs."""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_store.errors import UsageError
from mer_store.layers import Layer
from mer_store.store.clip_checks import CLIP_CHECKS, clip_checks
from mer_store.store.commit import ATTRIBUTE, GROUP_FILE, with_group_file
from mer_store.store.layer_files import LayerFiles
from mer_store.store.layout import make_folder, write_file
from mer_store.store.ledger_row import LedgerRow
from mer_store.store.metadata import member_metadata, part_metadata, to_text
from mer_store.store.plain_file import is_part_name
from mer_store.store.record import CommitRecord, FileFacts
from mer_store.store.rows_file import RowsFile
from mer_store.store.shard import CHUNK_ROWS_NARROW, DTYPES, ArrayInfo, shard_path

OFFSETS = "offsets"
#: Names that no layer and no table may have.
RESERVED = (OFFSETS, CLIP_CHECKS)
#: Threads that hash and write while the next rows are made. At the end they wait for the disk, and files
#: that are synced at once share the file system's own commits.
N_WRITING = 8


class PartFiles:
    """Writes the arrays of one part into `folder`, which is nobody else's."""

    def __init__(
        self, folder: Path, layers: Sequence[Layer], stored_dtype: str, *, one_row: bool
    ) -> None:
        self._folder = folder
        self._layers = layers
        self._pool = ThreadPoolExecutor(N_WRITING, thread_name_prefix="store")
        self._layer_files = LayerFiles(
            folder, layers, np.dtype(stored_dtype), self._pool, one_row=one_row
        )
        self._arrays: dict[str, RowsFile] = {}
        self._counts: list[int] = []
        self._table_counts: dict[str, list[int]] = {}
        self._columns: dict[str, set[str]] = {}

    def stage(self, clip_id: str, rows: Sequence[NDArray[Any]]) -> NDArray[Any] | None:
        """Check and, where they are few, copy a clip's rows; as `LayerFiles.stage`."""
        return self._layer_files.stage(clip_id, rows)

    @property
    def room(self) -> int:
        """Clips of one row that can be staged together now."""
        return self._layer_files.room

    def stage_clips(self, rows: Sequence[NDArray[Any]]) -> NDArray[Any] | None:
        """Copy clips of one row each; as `LayerFiles.stage_clips`."""
        return self._layer_files.stage_clips(rows)

    def take_clips(self, n_clips: int) -> None:
        """Add the clips that were copied by `stage_clips`, which have no side tables."""
        self._layer_files.take_clips(n_clips)
        self._counts += [1] * n_clips

    def append(
        self,
        clip_id: str,
        rows: Sequence[NDArray[Any]],
        wide: Collection[Layer],
        tables: Mapping[str, Mapping[str, NDArray[Any]]],
        *,
        staged: bool,
    ) -> None:
        """Add the clip that was staged last, its rows [T, D] per layer, and its side tables.

        The layers in `wide` hold values that float16 does not: they are stored as float32.
        """
        checked = self._check(clip_id, tables) if tables else {}
        self._layer_files.append(rows, wide, staged=staged)
        for table, columns in checked.items():
            counts = self._table_counts.setdefault(table, [])
            counts += [0] * (len(self._counts) - len(counts))
            counts.append(len(next(iter(columns.values()))))
            for column, values in columns.items():
                self._file(f"{table}/{column}", values).append(values)
        self._counts.append(len(rows[0]))

    def _file(self, name: str, rows: NDArray[Any]) -> RowsFile:
        if name not in self._arrays:
            path = self._folder.joinpath(name, "c", *("0" for _ in rows.shape))
            self._arrays[name] = RowsFile(path, rows.dtype, rows.shape[1:], CHUNK_ROWS_NARROW)
        return self._arrays[name]

    def _check(
        self, clip_id: str, tables: Mapping[str, Mapping[str, NDArray[Any]]]
    ) -> dict[str, dict[str, NDArray[Any]]]:
        """Refuse tables that do not fit the clips' before, while nothing of this one is written."""
        arrays = {
            table: {column: np.asarray(values) for column, values in columns.items()}
            for table, columns in tables.items()
        }
        for table, columns in arrays.items():
            self._check_table(f"clip {clip_id}, table {table}", table, columns)
        return arrays

    def _check_table(self, where: str, table: str, columns: Mapping[str, NDArray[Any]]) -> None:
        expected = self._columns.setdefault(table, set(columns))
        if not columns or set(columns) != expected:
            raise UsageError(
                f"{where}: expected the columns {sorted(expected)}, got {sorted(columns)}"
            )
        taken = {*RESERVED, *map(str, self._layers)}
        if table in taken or OFFSETS in columns or not all(map(is_part_name, (table, *columns))):
            raise UsageError(
                f"{where}: a table's or column's name cannot be used: {sorted(columns)}"
            )
        if len({values.shape[:1] for values in columns.values()}) != 1:
            raise UsageError(f"{where}: columns differ in length")
        for column, values in columns.items():
            before = self._arrays.get(f"{table}/{column}")
            if (
                values.ndim not in (1, 2)
                or values.dtype.name not in DTYPES
                or 0 in values.shape[1:]
            ):
                raise UsageError(
                    f"{where}: {column}: expected numbers [n] or [n, k], got {values.dtype}"
                )
            if before and (before.dtype, before.row_shape) != (values.dtype, values.shape[1:]):
                raise UsageError(
                    f"{where}: {column}: expected {before.dtype} {before.row_shape}, "
                    f"got {values.dtype} {values.shape[1:]}"
                )

    def finish(
        self,
        fingerprint: str,
        part_id: str,
        attempt: int,
        ledger: tuple[LedgerRow, ...],
        versions: Mapping[str, str],
    ) -> CommitRecord:
        """Write all that is left, durable, and return the part's record."""
        self._append_offsets()
        layer_files = self._layer_files.settle()
        arrays: dict[str, ArrayInfo] = {}
        files: dict[str, FileFacts] = {}
        syncing = self._finish_arrays(layer_files, arrays, files)
        if layer_files:
            self._append_clip_checks(layer_files, arrays)
        syncing += self._finish_arrays(self._arrays, arrays, files)
        members = member_metadata(arrays)
        texts = {f"{name}/{GROUP_FILE}": to_text(member) for name, member in members.items()}
        files |= {path: FileFacts.of(text) for path, text in texts.items()}
        record = CommitRecord(
            fingerprint, part_id, attempt, tuple(self._layers), ledger, arrays, files, versions
        )
        text = to_text(part_metadata(members, {ATTRIBUTE: record.to_values()}))
        texts[GROUP_FILE] = text
        syncing += [self._pool.submit(self._write_text, *item) for item in texts.items()]
        for future in syncing:
            future.result()
        return with_group_file(record, text)

    def _finish_arrays(
        self,
        writing: Mapping[str, RowsFile],
        arrays: dict[str, ArrayInfo],
        files: dict[str, FileFacts],
    ) -> list[Future[None]]:
        """Finish arrays and note what they are; return what makes them durable."""
        finishing = {name: self._pool.submit(file.finish) for name, file in writing.items()}
        syncing: list[Future[None]] = []
        for name in sorted(finishing):
            arrays[name], facts = finishing[name].result()
            if facts is not None:
                files[shard_path(name, arrays[name])] = facts
                syncing.append(self._pool.submit(writing[name].sync))
        return syncing

    def _append_clip_checks(
        self, layer_files: Mapping[str, RowsFile], arrays: Mapping[str, ArrayInfo]
    ) -> None:
        offsets = np.cumsum([0, *self._counts], dtype=np.int64)
        # One after the other: single rows keep Python busy, and meanwhile files are synced.
        each = [
            clip_checks(layer_files[n].path, arrays[n], offsets) for n in map(str, self._layers)
        ]
        checks = np.stack(each, axis=1)
        self._file(CLIP_CHECKS, checks).append(checks)

    def _append_offsets(self) -> None:
        counts = {"": self._counts} | {
            f"{name}/": counts for name, counts in self._table_counts.items()
        }
        for prefix, lengths in counts.items():
            offsets = np.zeros(len(self._counts) + 1, dtype="<i8")
            offsets[1 : len(lengths) + 1] = np.cumsum(lengths)
            offsets[len(lengths) + 1 :] = offsets[len(lengths)]
            self._file(prefix + OFFSETS, offsets).append(offsets)

    def _write_text(self, path: str, text: bytes) -> None:
        place = self._folder / path
        make_folder(place.parent)
        write_file(place, text)

    def abandon(self) -> None:
        """Close every file, once nothing is being written to it."""
        self._pool.shutdown(cancel_futures=True)
        for file in (*self._arrays.values(), *self._layer_files.files.values()):
            file.abandon()
