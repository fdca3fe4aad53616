"""Turns at the device: of the parts in hand one computes while the others read or write."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from threading import Condition


class Turns:
    """Lets one thread compute at a time: of those that wait, the one whose part was begun first.

    The older part gets through as if it were alone, and the younger one has the device while that one waits
    for input, writes or commits. In turn about, both would commit at the same time, and nobody compute.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._tickets = count()
        self._waiting: set[int] = set()
        self._taken = False

    def ticket(self) -> int:
        """Return what a part shows to get its turns."""
        return next(self._tickets)

    @contextmanager
    def turn(self, ticket: int) -> Iterator[None]:
        """Wait until the device is free and nobody with an older ticket waits."""
        with self._changed:
            self._waiting.add(ticket)
            try:
                self._changed.wait_for(lambda: not self._taken and min(self._waiting) == ticket)
                self._taken = True
            finally:
                self._waiting.discard(ticket)
        try:
            yield
        finally:
            with self._changed:
                self._taken = False
                self._changed.notify_all()


#: This process's.
TURNS = Turns()
