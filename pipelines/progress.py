"""Progress on stderr: clips/s, audio hours/s, time left, failures."""

import sys
import time
from typing import TextIO

from tqdm import tqdm

from pipelines.work import Tally

LOG_EVERY_S = 10.0
SECONDS_PER_HOUR = 3600.0
BAR = "{bar:20}  "
FACTS = "{desc}  {n_fmt}/{total_fmt} clips  {rate_noinv_fmt}{postfix}  {remaining} left"


class Progress:
    """One line that is redrawn on a terminal, or a line every ten seconds in a log."""

    def __init__(self, label: str, n_clips: int, stream: TextIO | None = None) -> None:
        stream = stream or sys.stderr
        terminal = stream.isatty()
        self._started_s = time.monotonic()
        self.total = Tally()
        self._bar = tqdm(
            total=n_clips,
            desc=label,
            unit=" clips",
            file=stream if terminal else LineStream(stream),
            mininterval=0.2 if terminal else LOG_EVERY_S,
            maxinterval=LOG_EVERY_S,
            dynamic_ncols=terminal,
            bar_format=BAR + FACTS if terminal else FACTS,
        )

    def add(self, tally: Tally) -> None:
        """Count what has just been dealt with."""
        self.total += tally
        self._bar.set_postfix_str(self._postfix(), refresh=False)
        self._bar.update(tally.n_clips)

    def close(self) -> None:
        """Draw the line a last time."""
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


class LineStream:
    """Turns tqdm's redrawn line into lines of a log."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write `text` as a line of its own, if it says anything."""
        if line := text.strip("\r\n "):
            self._stream.write(line + "\n")

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()
