"""Stopping cleanly: the first Ctrl-C asks, the second insists."""

import signal
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

MESSAGE = (
    "\nstopping: finishing the batch in hand and committing what is done (Ctrl-C again drops it)"
)


class StopFile:
    """A flag that every worker sharing the store's file system can see."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"stop-{uuid.uuid4().hex}"
        self.asked = False

    def ask(self) -> None:
        """Raise the flag."""
        self.asked = True
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()

    def clear(self) -> None:
        """Take the flag down."""
        self.path.unlink(missing_ok=True)


@contextmanager
def stop_on_signal(stop: StopFile) -> Iterator[None]:
    """Raise `stop` at the first SIGINT or SIGTERM, KeyboardInterrupt at the second.

    SLURM sends SIGTERM before it kills.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if stop.asked:
            raise KeyboardInterrupt
        stop.ask()
        print(MESSAGE, file=sys.stderr, flush=True)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        stop.clear()
