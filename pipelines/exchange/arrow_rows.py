"""Clips and their layers as Arrow tables: one row a clip. The one file that imports pyarrow."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from mer_store.layers import Layer
from mer_store.store.ledger import Status
from pipelines.exchange.chosen import BLOCK_BYTES, Chosen, layer_type

MAX_GROUP_CLIPS = 4096
SPEC_KEY = "mer_store_spec"


@dataclass(frozen=True)
class Rows:
    """Rows of one feature set: clip_id, status, reason, layer_<layer>."""

    chosen: Chosen

    @cached_property
    def frames(self) -> bool:
        """Whether a clip has many rows a layer."""
        return self.chosen.feature_set.spec.level == "frame"

    @cached_property
    def vectors(self) -> dict[Layer, Any]:
        """Type of a row of each layer: D float32 numbers."""
        found = self.chosen.feature_set
        return {
            layer: pa.list_(pa.float32(), layer_type(found, layer)[1])
            for layer in self.chosen.layers
        }

    @cached_property
    def schema(self) -> Any:
        """Names and types of the columns; the spec as metadata."""
        texts = dict.fromkeys(("clip_id", "status", "reason"), pa.string())
        layers = {
            f"layer_{layer}": pa.list_(vector) if self.frames else vector
            for layer, vector in self.vectors.items()
        }
        return pa.schema(texts | layers, {SPEC_KEY: self.chosen.feature_set.spec.to_json()})

    def groups(self) -> Iterator[slice]:
        """Cut the clips into row groups of at most `MAX_GROUP_CLIPS` clips or `BLOCK_BYTES`."""
        row_bytes = 4 * sum(vector.list_size for vector in self.vectors.values())
        ends = np.cumsum(np.maximum(self.chosen.lengths(), 1)) * row_bytes
        start = 0
        while start < len(ends):
            before = int(ends[start - 1]) if start else 0
            stop = int(np.searchsorted(ends, before + BLOCK_BYTES, side="right"))
            stop = min(max(stop, start + 1), start + MAX_GROUP_CLIPS)
            yield slice(start, stop)
            start = stop

    def tables(self) -> Iterator[Any]:
        """Read and yield a table for each row group.

        Raises
        ------
        StoreDamagedError
            Bytes are missing or wrong.
        """
        ledger = self.chosen.ledger
        statuses = [Status(status).name.lower() for status in self.chosen.status().tolist()]
        texts = (ledger.clip_ids, statuses, self.chosen.reasons())
        there = ledger.has(self.chosen.layers)
        for group in self.groups():
            arrays = [pa.array(column[group], pa.string()) for column in texts]
            for number, layer in enumerate(self.chosen.layers):
                arrays.append(self._column(layer, group, there[group, number]))
            yield pa.Table.from_arrays(arrays, schema=self.schema)

    def _column(self, layer: Layer, group: slice, there: NDArray[np.bool_]) -> Any:
        """Read one layer of the clips that have it, null for the others."""
        vector, mask = self.vectors[layer], pa.array(~there)
        ids = [self.chosen.ledger.clip_ids[group][row] for row in np.flatnonzero(there).tolist()]
        feature_set, width = self.chosen.feature_set, vector.list_size
        if not self.frames:
            values = np.zeros((len(there), width), np.float32)
            if ids:
                values[there] = feature_set.read([layer], ids, np.float32)[:, 0]
            return pa.FixedSizeListArray.from_arrays(
                pa.array(values.ravel()), type=vector, mask=mask
            )
        runs = feature_set.ragged([layer], ids, np.float32)
        counts = np.zeros(len(there), np.int32)
        counts[there] = [len(run) for run in runs]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        rows = np.concatenate([np.zeros((0, width), np.float32), *(run[:, 0] for run in runs)])
        inner = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), type=vector)
        return pa.ListArray.from_arrays(pa.array(offsets), inner, type=pa.list_(vector), mask=mask)


def write_tables(path: Path, rows: Rows) -> Iterator[int]:
    """Write a file, one row group after the other; yield how many clips each has."""
    with parquet.ParquetWriter(
        path, rows.schema, compression="NONE", use_dictionary=["status", "reason"],
        write_statistics=["clip_id", "status"],
    ) as writer:  # fmt: skip
        for table in rows.tables():
            writer.write_table(table, row_group_size=len(table))
            yield len(table)
