"""Which rows of small parts readers depend on, and under which names they can be copied."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mer_store.errors import StoreDamagedError
from mer_store.store.answers import Answers, Rows
from mer_store.store.ledger import Status
from mer_store.store.row_contents import RowContents

Mask = NDArray[np.bool_]


class Duties:
    """What rows of small parts answer for, that no large part answers for in the very same way.

    Parameters
    ----------
    answers
        Of the index.
    is_large
        [parts]: whose rows need not be copied.
    contents
        Compares what rows hold.
    names
        Layers, then tables, of the index.
    """

    def __init__(
        self, answers: Answers, is_large: Mask, contents: RowContents, names: Sequence[str]
    ) -> None:
        self._answers, self._contents, self._all_names = answers, contents, names
        self._large: Mask = is_large[answers.part]
        """[rows]"""
        facts = self.facts = answers.of(np.arange(answers.n_rows))
        self._ok_clip: Mask = facts.status == Status.OK
        served = self._served()
        decides = self._decides()
        fails = np.where(self._covered_failures(), -1, facts.failing)
        busy = self._mask(served.ravel()) | self._mask(decides) | self._mask(fails.ravel())
        self.live: Mask = (busy | self._mask(self._tries())) & ~self._large
        """[rows]: to be copied."""
        self.names: Mask = self._names(served)
        """[names, rows]: under which a live row is to be copied; none where it must stay."""
        stays = self.live & ~(self.names[: answers.n_layers].any(axis=0) & self._may_decide())
        parts = np.arange(answers.n_parts)
        self.sources: Mask = np.isin(parts, answers.part[self.live]) & ~np.isin(
            parts, answers.part[stays]
        )
        """[parts]: all of whose live rows can be copied."""

    def _mask(self, rows: Rows) -> Mask:
        mask = np.zeros(self._answers.n_rows, bool)
        mask[rows[rows >= 0]] = True
        return mask

    def _served(self) -> Rows:
        """[names, clips]: as the facts say, or a large part's row that holds the same."""
        answers, served = self._answers, self.facts.served.copy()
        digest = answers.digest[self.facts.deciding][answers.clip]
        for number, name in enumerate(self._all_names):
            fit = answers.is_ok & self._large & answers.has[number][answers.part]
            other = answers.first_where(fit & (answers.digest == digest))
            row = served[number]
            at = np.flatnonzero((row >= 0) & (other >= 0) & ~self._large[row])
            at = at[answers.ties(row[at], other[at])]
            try:
                at = at[self._contents.same(name, row[at], other[at])]
            except StoreDamagedError:
                continue  # one of the two cannot be read: nothing is known to be there twice
            row[at] = other[at]
        return served

    def _decides(self) -> Rows:
        """[clips]: the deciding row, or a large part's that says the same."""
        answers, deciding = self._answers, self.facts.deciding
        own = deciding[answers.clip]
        fit = self._large & answers.ties(np.arange(answers.n_rows), own)
        for column in (answers.digest, answers.n_bytes, answers.mtime_ns):
            fit &= column == column[own]
        said = (answers.status == answers.status[own]) & (answers.reason == answers.reason[own])
        other = answers.first_where(fit & (said | self._ok_clip[answers.clip]))
        return np.where(other >= 0, other, deciding)

    def _covered_failures(self) -> Mask:
        """[layers, clips]: whether a large part says the same of why a layer is not there."""
        answers = self._answers
        covered = np.zeros(self.facts.failing.shape, bool)
        for layer, row in enumerate(self.facts.failing):
            own = row[answers.clip]
            fit = self._large & (own >= 0) & answers.has[layer][answers.part]
            for column in (answers.digest, answers.status, answers.reason, answers.attempt):
                fit &= column == column[own]
            covered[layer] = answers.first_where(fit) >= 0
        return covered

    def _tries(self) -> Rows:
        """[clips]: where the last attempt is not the deciding row's, a row that tells of it."""
        answers, facts = self._answers, self.facts
        last = answers.attempt == facts.attempt[answers.clip]
        first, large = answers.first_where(last), answers.first_where(last & self._large)
        row = np.where(large >= 0, large, first)
        row[answers.attempt[facts.deciding] == facts.attempt] = -1
        return row

    def _names(self, served: Rows) -> Mask:
        """[names, rows]: an ok row is copied for what it serves, another one for what it may speak of.

        A failure may speak of a layer that is served, of one it speaks of already, and of one whose reason
        stands in a row that comes first whatever parts are called.
        """
        answers, n_layers = self._answers, self._answers.n_layers
        names = np.zeros((len(self._all_names), answers.n_rows), bool)
        once = np.zeros_like(names)
        for number in range(len(names)):
            names[number] = self._mask(served[number])
            once[number] = self._mask(self.facts.served[number])
        idle = ~names[:n_layers].any(axis=0)
        names[:, idle] = once[:, idle]  # its layers lie in a large part, too, but it decides
        rows = np.arange(answers.n_rows)
        for layer in range(n_layers):
            own = self.facts.failing[layer][answers.clip]
            free = (own < 0) | (own == rows) | ~answers.ties(rows, own)
            names[layer] |= ~answers.is_ok & answers.has[layer][answers.part] & free
        return names

    def _may_decide(self) -> Mask:
        """[rows]: whether it would do no harm if the row came first."""
        answers = self._answers
        rows = np.arange(answers.n_rows)
        deciding = self.facts.deciding[answers.clip]
        same = answers.digest == answers.digest[deciding]
        said = (answers.status == answers.status[deciding]) & (
            answers.reason == answers.reason[deciding]
        )
        harmless = same & (said | self._ok_clip[answers.clip])
        may: Mask = (rows == deciding) | ~answers.ties(rows, deciding) | harmless
        return may

    def tied_to_deciding(self, rows: Rows) -> Rows:
        """Return each row's deciding row where only names of parts rank the two, else the row itself."""
        deciding = self.facts.deciding[self._answers.clip[rows]]
        same = self._answers.digest[rows] == self._answers.digest[deciding]
        return np.where(self._answers.ties(rows, deciding) & same, deciding, rows)
