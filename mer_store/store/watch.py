"""What long work on a store tells while it runs."""

import threading
from dataclasses import dataclass, field
from typing import Protocol


class Watch(Protocol):
    """Draws the progress. Any thread may call it."""

    def expect(self, n_bytes: int, n_items: int) -> None:
        """Add to what there is to do in all."""
        ...

    def add(self, n_bytes: int, n_items: int) -> None:
        """Count what is done."""
        ...


class Silent:
    """Draws nothing."""

    def expect(self, n_bytes: int, n_items: int) -> None:
        """Do nothing."""

    def add(self, n_bytes: int, n_items: int) -> None:
        """Do nothing."""


class Stopped(Exception):  # noqa: N818 - no error: threads end by it when the work is given up
    """The work was given up."""


@dataclass
class Brake:
    """Counts bytes for a watch, and ends the threads that do once it is pulled."""

    watch: Watch
    _pulled: threading.Event = field(default_factory=threading.Event)

    def __call__(self, n_bytes: int) -> None:
        """Count bytes. Raises `Stopped` where the brake was pulled."""
        if self._pulled.is_set():
            raise Stopped
        self.watch.add(n_bytes, 0)

    def pull(self) -> None:
        """End every thread at its next block."""
        self._pulled.set()
