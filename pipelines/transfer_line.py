"""The progress of a push or a pull on stderr: bytes, clips, time left."""

import sys
import threading
from typing import TextIO

from tqdm import tqdm

from pipelines.lines import BAR, line_options

_FACTS = "{desc}  {n_fmt}/{total_fmt}  {rate_fmt}{postfix}  {remaining} left"


class TransferLine:
    """Listens to a transfer. Any thread may call it."""

    noun = "clips"

    def __init__(self, label: str, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._lock = threading.Lock()
        self._n_clips = self._n_clips_done = 0
        options = dict(line_options(self._stream))
        options["bar_format"] = (BAR if options["dynamic_ncols"] else "") + _FACTS
        self._bar = tqdm(total=0, desc=label, unit="B", unit_scale=True, **options)

    def expect(self, n_bytes: int, n_clips: int) -> None:
        """Change what there is to do in all."""
        with self._lock:
            self._bar.total += n_bytes
            self._n_clips += n_clips
            self._show()

    def add(self, n_bytes: int, n_clips: int) -> None:
        """Count what is done."""
        with self._lock:
            self._n_clips_done += n_clips
            self._bar.set_postfix_str(self._postfix(), refresh=False)
            self._bar.update(n_bytes)

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

    def _show(self) -> None:
        self._bar.set_postfix_str(self._postfix(), refresh=False)

    def _postfix(self) -> str:
        return f"{self._n_clips_done:,}/{self._n_clips:,} {self.noun}"
