"""How fast a worker is now, and what its time goes on."""

from collections import deque
from dataclasses import dataclass

from pipelines.work import Tally

#: The time that "now" takes in; and how finely it is kept.
WINDOW_S = 60.0
GRAIN_S = 1.0


@dataclass(frozen=True)
class Pace:
    """What was done in a span of time, as rates and shares."""

    clips_per_s: float = 0.0
    media_per_s: float = 0.0
    """Seconds of media per second, which is hours of media per hour."""
    waiting: float = 0.0
    """Share of the time in which the model waits for input."""
    computing: float = 0.0
    writing: float = 0.0
    modality: str = ""
    """Of several, the one that takes most of the largest of these shares."""
    modality_share: float = 0.0
    """How much of it."""


class Pacer:
    """Counts what somebody does, and remembers how it stood over the last minute."""

    def __init__(self, now_s: float) -> None:
        self.total = Tally()
        self._samples: deque[tuple[float, Tally]] = deque([(now_s, Tally())])

    def add(self, tally: Tally, now_s: float) -> None:
        """Count what was done up to now."""
        self._keep(now_s)
        self.total += tally

    def pace(self, now_s: float) -> Pace:
        """Return the pace of the last minute. Who reports nothing is slower by the second."""
        self._keep(now_s)
        then_s, then = self._samples[0]
        span_s = max(now_s - then_s, 1e-3)
        done = self.total - then
        times_s = done.by_stage
        whole_s = max(span_s, sum(times_s.values()))  # a long batch is reported when it is over
        stage = max(times_s, key=lambda name: times_s[name])
        modality, part = next(iter(done.parts_of(stage).items()), ("", 0.0))
        return Pace(
            clips_per_s=done.n_clips / span_s,
            media_per_s=done.media_s / span_s,
            waiting=done.waiting_s / whole_s,
            computing=done.computing_s / whole_s,
            writing=done.writing_s / whole_s,
            modality=modality,
            modality_share=part * times_s[stage] / whole_s if modality else 0.0,
        )

    def _keep(self, now_s: float) -> None:
        if now_s - self._samples[-1][0] >= GRAIN_S:
            self._samples.append((now_s, self.total))
        while len(self._samples) > 1 and now_s - self._samples[1][0] >= WINDOW_S:
            self._samples.popleft()
