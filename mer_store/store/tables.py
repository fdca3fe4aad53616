"""Side tables: facts about a clip's images or frames, stored beside its features."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_store.errors import UsageError
from mer_store.store.gather import by_part
from mer_store.store.part_files import OFFSETS
from mer_store.store.reader import Reader

Table = dict[str, NDArray[Any]]


def read_table(
    reader: Reader, name: str, clip_ids: Sequence[str] | None, *, verify: bool
) -> list[Table]:
    """Read one table: column -> [n] or [n, k], for each clip in the order asked.

    Raises
    ------
    UsageError
        There is no such table, or some clips have no features.
    StoreDamagedError
        Bytes are missing or wrong.
    """
    index, prefix = reader.index, f"{name}/"
    if prefix not in index.names:
        there = ", ".join(other[:-1] for other in index.names if other.endswith("/")) or "none"
        raise UsageError(f"{reader.spec.name}: no table {name!r}; there is: {there}")
    (serving,) = reader.serving([prefix], clip_ids)
    tables: list[Table] = [{} for _ in serving]
    for part, positions in by_part(index.rows["part"][serving]):
        offsets = reader.parts.offsets(part, prefix, verify=verify)
        clip_rows = index.rows["clip_row"][serving[positions]]
        starts, ends = offsets[clip_rows].tolist(), offsets[clip_rows + 1].tolist()
        columns = [array for array in index.parts[part].arrays if array.startswith(prefix)]
        for column in sorted(set(columns) - {prefix + OFFSETS}):
            array = reader.parts.array(part, column)
            with reader.parts.naming(part, prefix):
                for position, start, end in zip(positions.tolist(), starts, ends, strict=True):
                    values = np.empty((end - start, *array.info.shape[1:]), array.dtype)
                    array.copy(start, values, verify=verify)
                    tables[position][column.removeprefix(prefix)] = values
    return tables
