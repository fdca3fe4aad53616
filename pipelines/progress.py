"""Progress on stderr: clips/s, audio hours/s, time left, failures."""

import sys
import threading
import time
from typing import TextIO

from tqdm import tqdm

from pipelines.lines import line_options
from pipelines.work import Tally

SECONDS_PER_HOUR = 3600.0


class Progress:
    """One line that is redrawn on a terminal, or a line every ten seconds in a log.

    Any thread may call it.
    """

    def __init__(self, label: str, n_clips: int, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._started_s = time.monotonic()
        self._lock = threading.Lock()
        self._label = label
        self.total = Tally()
        self._bar = tqdm(
            total=n_clips,
            desc=f"{label}: loading",
            unit=" clips",
            **line_options(self._stream),
        )

    def add(self, tally: Tally) -> None:
        """Count what has just been dealt with."""
        with self._lock:
            self.total += tally
            self._bar.set_description_str(self._label, refresh=False)
            self._bar.set_postfix_str(self._postfix(), refresh=False)
            # A part whose worker died is counted twice until `settle`.
            self._bar.update(min(tally.n_clips, self._bar.total - self._bar.n))

    def settle(self, total: Tally) -> None:
        """Replace what was counted on the way by what was committed."""
        with self._lock:
            self.total = total
            self._bar.n = total.n_clips
            self._bar.set_description_str(self._label, refresh=False)
            self._bar.set_postfix_str(self._postfix(), refresh=False)

    def say(self, text: str) -> None:
        """Write a line of its own."""
        with self._lock:
            self._bar.clear()
            self._stream.write(text + "\n")
            self._stream.flush()

    def close(self) -> None:
        """Draw the line a last time, if it has anything to say."""
        self._bar.leave = self._bar.n > 0
        self._bar.close()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started_s

    def _postfix(self) -> str:
        words = []
        if self.total.media_s:
            hours = self.total.media_s / SECONDS_PER_HOUR
            words.append(f"{hours / max(self.elapsed_s, 1e-9):.4f} media h/s")
        if self.total.n_failed:
            words.append(f"{self.total.n_failed} failed")
        if self.total.n_empty:
            words.append(f"{self.total.n_empty} empty")
        return "  ".join(words)
