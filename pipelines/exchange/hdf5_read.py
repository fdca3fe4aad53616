"""One feature set of an HDF5 file: its clips as columns, checked, and their rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mer_store.layers import Layer, parse_layers
from mer_store.spec import Spec
from mer_store.store.ledger import Status
from mer_store.store.ledger_row import is_valid_clip_id, is_valid_digest
from mer_store.store.part_files import OFFSETS
from mer_store.store.writer import ClipRows
from pipelines.exchange.hdf5_check import CheckedFile
from pipelines.exchange.hdf5_columns import (
    decoded,
    read_layers,
    read_numbers,
    read_offsets,
    read_reasons,
)
from pipelines.exchange.hdf5_write import HAS


@dataclass(frozen=True)
class Table:
    """A side table."""

    columns: Mapping[str, h5py.Dataset]
    offsets: NDArray[np.int64]
    """[clips + 1]"""
    has: NDArray[np.bool_]
    """[clips]"""


@dataclass(frozen=True)
class FileSet:
    """A feature set of a file."""

    file: CheckedFile
    group: str
    """Its path."""
    spec: Spec
    clip_ids: Sequence[str]
    digests: Sequence[str | None]
    reasons: Sequence[str | None]
    n_bytes: NDArray[np.int64]
    mtime_ns: NDArray[np.int64]
    offsets: NDArray[np.int64]
    """[clips + 1]"""
    layers: tuple[Layer, ...]
    """Those asked for."""
    layer_status: NDArray[np.uint8]
    """[clips, layers] of `Status`."""
    datasets: Mapping[Layer, h5py.Dataset]
    tables: Mapping[str, Table]

    @classmethod
    def read(cls, file: CheckedFile, group: str, spec: Spec, layers: str | None) -> "FileSet":
        """Read and check all but the features.

        Parameters
        ----------
        file, group
            Where it is.
        spec
            As `hdf5_columns.read_spec` gave it.
        layers
            Which are asked for, as on the command line; None is all.

        Raises
        ------
        UsageError
            Layers are asked for that are not there.
        StoreDamagedError
            The group is no feature set, or what it says does not fit together.
        """
        known = read_layers(file, group)
        wanted = parse_layers(layers, known) if layers else known
        raw = file.column(f"{group}/clip_ids", "S")
        n_clips = len(raw)
        clip_ids = [decoded(file, f"{group}/clip_ids", text) for text in raw.tolist()]
        if len(set(clip_ids)) != n_clips or not all(map(is_valid_clip_id, clip_ids)):
            raise file.damage(f"{group}/clip_ids", "an id stands twice or cannot be one")
        digests = [
            decoded(file, f"{group}/digest", text) or None
            for text in file.column(f"{group}/digest", "S", n_clips).tolist()
        ]
        if bad := [digest for digest in digests if digest and not is_valid_digest(digest)]:
            raise file.damage(f"{group}/digest", f"{bad[0][:20]!r} cannot be one")
        offsets = read_offsets(file, f"{group}/{OFFSETS}", n_clips)
        status = file.column(f"{group}/layer_status", "iu", n_clips, (len(known),))
        found = cls(
            file, group, spec, clip_ids, digests, read_reasons(file, group, n_clips),
            read_numbers(file, f"{group}/n_bytes", n_clips), read_numbers(file, f"{group}/mtime_ns", n_clips),
            offsets, wanted, status[:, [known.index(layer) for layer in wanted]], {}, {},
        )  # fmt: skip
        found._check_ledger(status)
        datasets = {layer: found._layer(layer) for layer in wanted}
        return cls(**vars(found) | {"datasets": datasets, "tables": found._tables()})

    def _check_ledger(self, status: NDArray[np.uint8]) -> None:
        """Hold the statuses of all layers, and the words for them, against the rows."""
        lengths, ok = np.diff(self.offsets), (status == Status.OK).any(axis=1)
        words = self.file.column(f"{self.group}/status", "S", len(ok))
        if ((words == b"ok") != ok).any() or (status > max(Status)).any():
            raise self.file.damage(f"{self.group}/layer_status", "says other than status")
        if (lengths[~ok] != 0).any() or (
            self.spec.level == "utterance" and (lengths[ok] != 1).any()
        ):
            raise self.file.damage(f"{self.group}/{OFFSETS}", "rows do not fit the statuses")

    def _layer(self, layer: Layer) -> h5py.Dataset:
        name = f"{self.group}/layers/{layer}"
        dataset = self.file.dataset(name, (None,), "f")
        if dataset.dtype.itemsize > 4 or len(dataset) != self.offsets[-1]:
            raise self.file.damage(
                name, f"{dataset.dtype} {dataset.shape}: expected float16 or float32, one row a row"
            )
        ok = self.layer_status[:, self.layers.index(layer)] == Status.OK
        self.file.charge(name, dataset, int(np.diff(self.offsets)[ok].sum()))
        return dataset

    def _tables(self) -> dict[str, Table]:
        tables = {}
        for name in self.file.members(f"{self.group}/tables"):
            where = f"{self.group}/tables/{name}"
            n_clips = len(self.clip_ids)
            offsets = read_offsets(self.file, f"{where}/{OFFSETS}", n_clips)
            has = self.file.column(f"{where}/{HAS}", "iu", n_clips) > 0
            if np.diff(offsets)[~has].any():
                raise self.file.damage(where, "rows of clips that have no such table")
            columns = {}
            for column in self.file.members(where):
                if column not in (OFFSETS, HAS):
                    columns[column] = self._column(f"{where}/{column}", int(offsets[-1]))
            tables[name] = Table(columns, offsets, has)
        return tables

    def _column(self, name: str, n_rows: int) -> h5py.Dataset:
        with self.file.naming(name):
            row_shape = (None,) if self.file.n_dimensions(name) == 2 else ()
        dataset = self.file.dataset(name, row_shape, "biuf")
        if len(dataset) != n_rows:
            raise self.file.damage(name, f"{len(dataset)} rows, expected {n_rows}")
        self.file.charge(name, dataset, n_rows)
        return dataset

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of all layers together."""
        return sum(data.dtype.itemsize * data.shape[1] for data in self.datasets.values())

    def clips(self, run: slice, layers: Sequence[Layer], statuses: Sequence[str]) -> list[ClipRows]:
        """Read neighbouring clips; `statuses` says which of them have rows to be read."""
        start, stop = int(self.offsets[run.start]), int(self.offsets[run.stop])
        ok = [status == "ok" for status in statuses]
        rows = {}
        for layer in layers if any(ok) else ():
            name = f"{self.group}/layers/{layer}"
            rows[layer] = self.file.rows(name, self.datasets[layer], start, stop)
            finite = np.isfinite(rows[layer]).all(axis=1)
            if not (finite | ~np.repeat(ok, np.diff(self.offsets[run.start : run.stop + 1]))).all():
                raise self.file.damage(f"{name}[{start}:{stop}]", "values that are not finite")
        tables = {
            name: self._table_rows(name, table, run)
            for name, table in self.tables.items()
            if any(ok)
        }
        found = []
        for place, clip in enumerate(range(run.start, run.stop)):
            mine = slice(int(self.offsets[clip]) - start, int(self.offsets[clip + 1]) - start)
            n_bytes, mtime_ns = int(self.n_bytes[clip]), int(self.mtime_ns[clip])
            has_rows = ok[place]
            found.append(
                ClipRows(
                    self.clip_ids[clip],
                    statuses[place],
                    None if has_rows else self.reasons[clip],
                    self.digests[clip],
                    n_bytes if n_bytes >= 0 else None,
                    mtime_ns if mtime_ns >= 0 else None,
                    {layer: values[mine] for layer, values in rows.items()} if has_rows else {},
                    {
                        name: columns[place]
                        for name, columns in tables.items()
                        if self.tables[name].has[clip]
                    }
                    if has_rows
                    else {},
                )
            )
        return found

    def _table_rows(self, name: str, table: Table, run: slice) -> list[dict[str, NDArray[Any]]]:
        """Return the columns of each clip of a run."""
        bounds = table.offsets[run.start : run.stop + 1]
        start, stop = int(bounds[0]), int(bounds[-1])
        cuts = (bounds[1:-1] - start).tolist()
        where = f"{self.group}/tables/{name}"
        split = {
            column: np.split(self.file.rows(f"{where}/{column}", dataset, start, stop), cuts)
            for column, dataset in table.columns.items()
        }
        return [
            dict(zip(split, pieces, strict=True)) for pieces in zip(*split.values(), strict=True)
        ]
