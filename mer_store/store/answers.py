"""What an index answers, and which of its rows answers for what, with some of its parts left out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mer_store.store.index import Index
from mer_store.store.ledger import Status

Rows = NDArray[np.int64]
"""Numbers of rows of the index."""


@dataclass(frozen=True)
class Facts:
    """Which rows decide what is said of clips."""

    clip: Rows
    """[clips]: their numbers in the index."""
    deciding: Rows
    """[clips]"""
    attempt: NDArray[np.int32]
    """[clips]: the highest of any row."""
    status: NDArray[np.uint8]
    """[clips] of `Status`."""
    served: Rows
    """[names, clips]: the row that serves a layer or table, -1 where none does."""
    failing: Rows
    """[layers, clips]: the row that says why there is no layer; -1 where it is served or none says."""


class Answers:
    """The rows of an index as columns, under the same rules as `Index`."""

    def __init__(self, index: Index) -> None:
        rows, first = index.rows, index.first
        self.n_rows, self.n_parts = len(rows), len(index.parts)
        self.n_layers = len(index.layers)
        self.clip = np.repeat(np.arange(len(first)), np.diff([*first, len(rows)]))
        self.first = np.append(first, len(rows))
        self.part: Rows = rows["part"].astype(np.int64)
        self.status: NDArray[np.uint8] = rows["status"].copy()
        self.attempt: NDArray[np.int32] = rows["attempt"].copy()
        self.n_bytes: NDArray[np.int64] = rows["n_bytes"].copy()
        self.mtime_ns: NDArray[np.int64] = rows["mtime_ns"].copy()
        self.reason: NDArray[np.int32] = rows["reason"].copy()
        _, self.digest = np.unique(rows["digest"], return_inverse=True)
        self.has_digest: NDArray[np.bool_] = rows["digest"] != b""
        self.is_ok = self.status == Status.OK
        served = [part.served_names for part in index.parts]
        self.has = np.array([[name in names for names in served] for name in index.names], bool)
        self.has = self.has.reshape(len(index.names), self.n_parts)
        """[names, parts]: whether a part has a layer or table."""

    def of(self, at: Rows) -> Facts:
        """Return what is said of clips by their rows `at`, ascending, as if there were no others."""
        clip = self.clip[at]
        starts = np.flatnonzero(np.concatenate([[True], clip[1:] != clip[:-1]])[: len(clip)])
        number = np.repeat(np.arange(len(starts)), np.diff([*starts, len(at)]))
        deciding = at[starts]
        same = self.digest[at] == self.digest[deciding][number]
        serving = self.is_ok[at] & same
        served = self._firsts(at, number, len(starts), serving, len(self.has))
        current = ~self.is_ok[at] & (same | ~self.has_digest[at])
        failing = self._firsts(at, number, len(starts), current, self.n_layers)
        failing[served[: self.n_layers] >= 0] = -1
        status = self.status[deciding]
        status[number[serving]] = Status.OK
        attempt = np.zeros(len(starts), np.int32)
        np.maximum.at(attempt, number, self.attempt[at])
        return Facts(clip[starts], deciding, attempt, status, served, failing)

    def _firsts(
        self, at: Rows, number: Rows, n_clips: int, fit: NDArray[np.bool_], n_names: int
    ) -> Rows:
        """[names, clips]: of each clip's rows that fit, the first whose part has the name."""
        found = np.full((n_names, n_clips), -1, np.int64)
        for name in range(n_names):
            rows = np.flatnonzero(fit & self.has[name][self.part[at]])[::-1]
            found[name, number[rows]] = at[rows]  # of several the last one written is the first
        return found

    def first_where(self, fit: NDArray[np.bool_]) -> Rows:
        """[clips]: of all rows of each clip the first that fits, -1 where none does."""
        found = np.full(len(self.first) - 1, -1, np.int64)
        rows = np.flatnonzero(fit)[::-1]
        found[self.clip[rows]] = rows
        return found

    def ties(self, a: Rows, b: Rows) -> NDArray[np.bool_]:
        """Tell where only the names of their parts decide which of two rows of a clip comes first."""
        tied: NDArray[np.bool_] = (self.attempt[a] == self.attempt[b]) & (
            self.has_digest[a] == self.has_digest[b]
        )
        return tied
