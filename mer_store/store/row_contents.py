"""Whether two parts hold the same bytes for a clip: by the checksums of its rows."""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_store.store.clip_checks import check_of
from mer_store.store.index import Index
from mer_store.store.ledger import Status
from mer_store.store.part_files import OFFSETS
from mer_store.store.part_reader import Parts

Rows = NDArray[np.int64]


class RowContents:
    """Compares what rows of an index hold of a layer or table.

    Parameters
    ----------
    index
        Of a feature set.
    parts
        Opens its arrays.
    """

    def __init__(self, index: Index, parts: Parts) -> None:
        self._index, self._parts = index, parts
        self._known: dict[tuple[int, str], NDArray[np.uint32]] = {}

    def same(self, name: str, a: Rows, b: Rows) -> NDArray[np.bool_]:
        """[n]: whether ok rows `a` and `b` hold the same values of the same type under a name.

        Raises
        ------
        StoreDamagedError
            What is compared cannot be read.
        """
        rows = self._index.rows
        equal: NDArray[np.bool_] = a == b
        open_ = np.flatnonzero(~equal & (rows["n_rows"][a] == rows["n_rows"][b]))
        if not len(open_):
            return equal
        a, b = a[open_], b[open_]
        alike = np.array(
            [
                self._type(p, name) == self._type(q, name)
                for p, q in zip(rows["part"][a].tolist(), rows["part"][b].tolist(), strict=True)
            ]
        )
        open_, a, b = open_[alike], a[alike], b[alike]
        equal[open_] = self._checks_of(name, a) == self._checks_of(name, b)
        return equal

    def _type(self, part: int, name: str) -> Any:
        """Return what decides how the bytes are read."""
        arrays = self._index.parts[part].arrays
        if not name.endswith("/"):
            return arrays[name].dtype, arrays[name].shape[1:]
        columns = sorted(column for column in arrays if column.startswith(name))
        return [(column, arrays[column].dtype, arrays[column].shape[1:]) for column in columns]

    def _checks_of(self, name: str, rows: Rows) -> NDArray[np.uint32]:
        where, clip_rows = self._index.rows["part"][rows], self._index.rows["clip_row"][rows]
        checks = np.zeros(len(rows), np.uint32)
        for part in np.unique(where).tolist():
            hit = where == part
            checks[hit] = self._of_part(part, name)[clip_rows[hit]]
        return checks

    def _of_part(self, part: int, name: str) -> NDArray[np.uint32]:
        """[clips]: the checksum of each clip's rows under a name."""
        if (part, name) not in self._known:
            if name.endswith("/"):
                offsets = self._parts.offsets(part, name, verify=True)
                columns = [c for c in self._columns(part, name) if c != name + OFFSETS]
                known = self._worked_out(part, columns, offsets)
            else:
                listed = self._parts.clip_checks(part, name)
                known = (
                    self._worked_out(part, [name], self._starts(part)) if listed is None else listed
                )
            self._known[part, name] = known
        return self._known[part, name]

    def _columns(self, part: int, name: str) -> list[str]:
        return sorted(c for c in self._index.parts[part].arrays if c.startswith(name))

    def _starts(self, part: int) -> NDArray[np.int64]:
        """[clips + 1]: where each clip's rows start in the layers."""
        rows = self._index.rows[self._index.rows["part"] == part]
        rows = rows[rows["status"] == Status.OK]
        lengths = rows["n_rows"][np.argsort(rows["clip_row"])]
        return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)

    def _worked_out(
        self, part: int, columns: list[str], starts: NDArray[np.int64]
    ) -> NDArray[np.uint32]:
        checks = np.zeros(len(starts) - 1, np.uint32)
        bounds: list[int] = starts.tolist()
        for clip, (start, stop) in enumerate(pairwise(bounds)):
            checks[clip] = check_of(
                [self.rows(part, column, start, stop).tobytes() for column in columns]
            )
        return checks

    def rows(self, part: int, name: str, start: int, stop: int) -> NDArray[Any]:
        """Read rows [n, ...] of an array, checked."""
        reader = self._parts.array(part, name)
        out = np.empty((stop - start, *reader.info.shape[1:]), reader.dtype)
        with self._parts.naming(part, name if "/" not in name else name.rpartition("/")[0] + "/"):
            reader.copy(start, out, verify=True)
        return out
