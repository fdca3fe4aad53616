"""Which parts nobody needs: without them every reader is told and given the same."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mer_store.errors import StoreDamagedError
from mer_store.store.answers import Answers, Facts, Rows
from mer_store.store.feature_set import FeatureSet
from mer_store.store.ledger import Status
from mer_store.store.row_contents import RowContents


class Superseded:
    """Tells parts of a feature set that can go, one after the other.

    A part can go if without it every clip of it has the same status, reason, digest, size, time, attempt and
    layers, and each layer and table the same values: they are served by another part already, or by one that
    holds the same bytes.
    """

    def __init__(self, feature_set: FeatureSet) -> None:
        self.index = feature_set.index
        self._answers = Answers(self.index)
        self._contents = RowContents(self.index, feature_set._reader.parts)
        self._there = np.ones(len(self.index.parts), bool)
        order = np.argsort(self._answers.part, kind="stable")
        bounds = np.searchsorted(self._answers.part[order], np.arange(self._answers.n_parts + 1))
        self._rows_of = [order[a:b] for a, b in pairwise(bounds)]

    def plan(self) -> list[int]:
        """Return parts by their place in the index, in the order in which they can go.

        Small parts first, so that of a large part and the small ones it was made of the large one stays; of
        equal ones the one that loses first.
        """
        order = sorted(
            range(len(self._rows_of)), key=lambda part: (len(self._rows_of[part]), -part)
        )
        gone: list[int] = []
        while found := [part for part in order if self._there[part] and self.drop(part)]:
            gone += found
        self._there[gone] = True
        return gone

    def drop(self, part: int) -> bool:
        """Count a part as gone if it can go; tell whether."""
        if not self.can_go(part):
            return False
        self._there[part] = False
        return True

    def keep(self, part: int) -> None:
        """Count a part as there after all."""
        self._there[part] = True

    def can_go(self, part: int) -> bool:
        """Tell whether a part can go, given those that went before.

        One that had to be compared with another, where one of the two cannot be read, stays.
        """
        answers = self._answers
        clips = np.unique(answers.clip[self._rows_of[part]])
        begin, end = answers.first[clips], answers.first[clips + 1]
        spans = [np.arange(a, b) for a, b in zip(begin.tolist(), end.tolist(), strict=True)]
        at = np.concatenate(spans).astype(np.int64)
        at = at[self._there[answers.part[at]]]
        without = at[answers.part[at] != part]
        if len(np.unique(answers.clip[without])) < len(clips):
            return False
        try:
            return self._same(answers.of(at), answers.of(without))
        except StoreDamagedError:
            return False

    def is_stale(self, part: int) -> bool:
        """Tell whether all of a part was made from other bytes than the clips' current ones."""
        rows = self._rows_of[part]
        deciding = self._answers.first[self._answers.clip[rows]]
        return bool((self._answers.digest[rows] != self._answers.digest[deciding]).all())

    def _same(self, a: Facts, b: Facts) -> bool:
        answers = self._answers
        if (a.status != b.status).any() or (a.attempt != b.attempt).any():
            return False
        for column in (answers.digest, answers.n_bytes, answers.mtime_ns):
            if (column[a.deciding] != column[b.deciding]).any():
                return False
        lacking = a.status != Status.OK
        if (answers.reason[a.deciding] != answers.reason[b.deciding])[lacking].any():
            return False
        if (self._statuses(a.failing) != self._statuses(b.failing)).any():
            return False
        if ((a.served >= 0) != (b.served >= 0)).any():
            return False
        return all(
            self._contents.same(name, before[before >= 0], after[after >= 0]).all()
            for name, before, after in zip(self.index.names, a.served, b.served, strict=True)
        )

    def _statuses(self, rows: Rows) -> NDArray[np.uint8]:
        return np.where(rows >= 0, self._answers.status[rows], Status.MISSING).astype(np.uint8)
