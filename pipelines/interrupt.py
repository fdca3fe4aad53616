"""Stopping cleanly: the first Ctrl-C asks, the second insists."""

import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
MESSAGE = (
    "\nstopping: finishing the batch in hand and committing what is done (Ctrl-C again drops it)\n"
)
#: Flags of runs that died with their workers at work elsewhere: by now nobody looks at them.
OLD_S = 7 * 24 * 3600.0

_asked_here: set[str] = set()
_leaving = threading.Event()


class StopFile:
    """A flag that every worker sharing the store's file system can see."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"stop-{uuid.uuid4().hex}"
        self.asked = False

    def ask(self) -> None:
        """Raise the flag. Threads of this process see it even where no file can be written."""
        self.asked = True
        _asked_here.add(str(self.path.absolute()))
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()

    def clear(self) -> None:
        """Take the flag down, and flags that were left long ago."""
        _asked_here.discard(str(self.path.absolute()))
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
            for left in self.path.parent.glob("stop-*"):
                if time.time() - left.stat().st_mtime > OLD_S:
                    left.unlink(missing_ok=True)


def stop_is_asked(path: str) -> bool:
    """Tell whether the flag at `path` is up; an empty path is no flag."""
    if not path:
        return False
    return _leaving.is_set() or path in _asked_here or os.path.exists(path)  # noqa: PTH110


def leave() -> None:
    """Raise every flag for this process alone: it goes, and others do what it leaves."""
    _leaving.set()


@contextmanager
def stop_on_signal(stop: StopFile, *, outlived: bool = False) -> Iterator[None]:
    """Raise `stop` at the first SIGINT or SIGTERM, KeyboardInterrupt at the second.

    SLURM sends SIGTERM before it kills. Workers that are not ours live on after an error (`outlived`): for
    them the flag stays up, so that they commit what they have instead of going on for nobody.
    """
    try:
        with _handling(stop):
            yield
    except BaseException:
        if not outlived:
            stop.clear()
        raise
    stop.clear()


@contextmanager
def _handling(stop: StopFile) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if stop.asked:
            raise KeyboardInterrupt
        stop.ask()
        with suppress(OSError):
            os.write(2, MESSAGE.encode())  # a handler may not use sys.stderr: it may be in use

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def shield() -> None:
    """Keep signals from this thread and from the threads and processes it starts.

    A terminal sends Ctrl-C to every process. Without this, ffmpeg would end in the middle of a clip, which
    would then be recorded as failed.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


@contextmanager
def shielded() -> Iterator[None]:
    """Shield threads and processes that are started in here; signals that come meanwhile wait."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
