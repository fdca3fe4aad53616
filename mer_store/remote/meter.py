"""What a transfer tells while it runs, and how it is asked to stop."""

import threading
from dataclasses import dataclass, field
from typing import Protocol

from mer_store.errors import MerStoreError


class StoppedError(MerStoreError):
    """The transfer was asked to stop. What was fetched is kept for the next time."""


class Listener(Protocol):
    """Draws the progress."""

    def expect(self, n_bytes: int, n_clips: int) -> None:
        """Change what there is to do in all; may be called again, with negative numbers, too."""
        ...

    def add(self, n_bytes: int, n_clips: int) -> None:
        """Count what is done."""
        ...

    def say(self, text: str) -> None:
        """Print a line."""
        ...


class Silent:
    """Draws nothing."""

    def expect(self, n_bytes: int, n_clips: int) -> None:
        """Do nothing."""

    def add(self, n_bytes: int, n_clips: int) -> None:
        """Do nothing."""

    def say(self, text: str) -> None:
        """Do nothing."""


@dataclass
class Meter:
    """Counts of a transfer. Any thread may call it."""

    listener: Listener = field(default_factory=Silent)
    n_bytes_moved: int = 0
    """Over the wire."""
    n_bytes_kept: int = 0
    """Found in an earlier, interrupted transfer."""
    n_requests: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def moved(self, n_bytes: int, n_requests: int = 1) -> None:
        """Count bytes that came or went just now, and the requests that were made for them.

        Raises
        ------
        StoppedError
            Somebody asked to stop.
        """
        with self._lock:
            self.n_bytes_moved += n_bytes
            self.n_requests += n_requests
            self.listener.add(n_bytes, 0)
        self.check()

    def kept(self, n_bytes: int) -> None:
        """Count bytes that need not move."""
        with self._lock:
            self.n_bytes_kept += n_bytes
            self.listener.add(n_bytes, 0)

    def made(self, n_bytes: int) -> None:
        """Count bytes that follow from the record and need not come."""
        with self._lock:
            self.listener.add(n_bytes, 0)

    def unexpect(self, n_bytes: int) -> None:
        """Take back bytes that turned out not to count: they must come again."""
        with self._lock:
            self.listener.expect(n_bytes, 0)

    def clips(self, n_clips: int) -> None:
        """Count clips whose part is committed."""
        with self._lock:
            self.listener.add(0, n_clips)

    def stop(self) -> None:
        """Ask every thread to stop at its next block."""
        self._stop.set()

    def check(self) -> None:
        """Raise `StoppedError` where somebody asked to stop."""
        if self._stop.is_set():
            raise StoppedError("stopped")
