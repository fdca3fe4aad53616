"""The progress of an extraction on stderr: clips/s, media hours/s, time left, failures, worker by worker."""

import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

from pipelines.pace import Pacer
from pipelines.progress_view import JsonView, LineView, NoView, Shown, View
from pipelines.work import Tally

VIEWS: dict[str, Callable[[TextIO], View]] = {"auto": LineView, "json": JsonView, "none": NoView}


class Progress:
    """Counts what becomes of clips, and shows it in one of `VIEWS`. Any thread may call it."""

    def __init__(
        self, label: str, n_clips: int, stream: TextIO | None = None, style: str = "auto"
    ) -> None:
        self._started_s = self._drawn_s = time.monotonic()
        self._lock = threading.RLock()
        self._label = label
        self._n_clips = n_clips
        self._all = Pacer(self._started_s)
        self._workers: dict[str, Pacer] = {}
        self._settled: Tally | None = None
        self._view: View = VIEWS[style](stream or sys.stderr)
        self._view.draw(self._shown())

    @property
    def total(self) -> Tally:
        """What was counted; a part whose worker died is counted twice until `settle`."""
        return self._settled or self._all.total

    def add(self, tally: Tally, worker: str = "") -> None:
        """Count what has just been dealt with, by a worker of that name; none where it is this process."""
        now_s = time.monotonic()
        with self._lock:
            self._all.add(tally, now_s)
            if worker not in self._workers:
                self._workers[worker] = Pacer(self._started_s if not worker else now_s)
            self._workers[worker].add(tally, now_s)

    def tick(self) -> None:
        """Draw, if it is time to. Called several times a second."""
        with self._lock:
            if time.monotonic() - self._drawn_s >= self._view.every_s:
                self._drawn_s = time.monotonic()
                self._view.draw(self._shown())

    def settle(self, total: Tally) -> None:
        """Replace what was counted on the way by what was committed."""
        self._settled = total

    def say(self, text: str) -> None:
        """Write a line of its own."""
        with self._lock:
            self._view.say(text)

    def close(self) -> None:
        """Draw a last time, if there is anything to say."""
        with self._lock:
            self._view.close(self._shown() if self.total.n_clips else None)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started_s

    def _shown(self) -> Shown:
        now_s = time.monotonic()
        # Workers whose last minute is empty are not shown: they died, left, or load a model.
        paces = {name: pacer.pace(now_s) for name, pacer in self._workers.items()}
        return Shown(
            label=self._label,
            n_clips=self._n_clips,
            total=self.total,
            elapsed_s=self.elapsed_s,
            pace=self._all.pace(now_s),
            workers={name: pace for name, pace in sorted(paces.items()) if pace.clips_per_s},
            over=self._settled is not None,
        )
