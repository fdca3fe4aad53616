"""How progress is shown: redrawn on a terminal, a line every ten seconds in a log, JSON for programs."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Protocol, TextIO

from tqdm import tqdm

from pipelines.lines import BAR, LOG_EVERY_S, line_options
from pipelines.pace import Pace
from pipelines.work import Tally
from pipelines.worker_lines import media_hours, of_all, worker_line, worker_words

#: Lines of workers on a terminal; more are summed up in one.
MAX_LINES = 16
MAX_IN_LOG = 4


@dataclass(frozen=True)
class Shown:
    """What there is to show."""

    label: str
    n_clips: int
    total: Tally
    elapsed_s: float
    pace: Pace
    """Of all workers together, over the last minute."""
    workers: Mapping[str, Pace]
    """By name; the empty name is this process."""
    over: bool = False
    """True at the end: rates are those of the whole run."""

    @property
    def n_done(self) -> int:
        """Clips dealt with."""
        return min(self.total.n_clips, self.n_clips)

    @property
    def clips_per_s(self) -> float:
        """The rate to show."""
        return (
            self.total.n_clips / max(self.elapsed_s, 1e-3) if self.over else self.pace.clips_per_s
        )

    @property
    def media_per_s(self) -> float:
        """Seconds of media per second."""
        return (
            self.total.media_s / max(self.elapsed_s, 1e-3) if self.over else self.pace.media_per_s
        )

    @property
    def left_s(self) -> float | None:
        """Time left at the pace of the last minute; None where there was none."""
        n_left = self.n_clips - self.n_done
        if not n_left:
            return 0.0
        return n_left / self.pace.clips_per_s if self.pace.clips_per_s else None

    @property
    def others(self) -> dict[str, Pace]:
        """Workers that are not this process."""
        return {name: pace for name, pace in self.workers.items() if name}


class View(Protocol):
    """Shows progress."""

    every_s: float

    def draw(self, shown: Shown) -> None:
        """Show how things stand."""

    def say(self, text: str) -> None:
        """Write a line of its own."""

    def close(self, last: Shown | None) -> None:
        """Show how things stand in the end, None where nothing was done."""


def total_line(shown: Shown) -> str:
    """Return the line of all workers: what a person waits for comes first."""
    total = shown.total
    loading = "" if total.n_clips else ": loading"
    words = [f"{shown.label}{loading}", f"{shown.n_done}/{shown.n_clips} clips"]
    if total.n_clips:
        words.append(f"{shown.clips_per_s:.1f} clips/s")
    if not shown.over:
        left_s = shown.left_s
        words.append(f"{'?' if left_s is None else tqdm.format_interval(left_s)} left")
    if total.media_s:
        words.append(media_hours(shown.media_per_s))
    words += [f"{total.n_failed} failed"] if total.n_failed else []
    words += [f"{total.n_empty} empty"] if total.n_empty else []
    alone = shown.workers.get("")
    if alone and not shown.over:
        words.append(worker_words(alone))
    return "  ".join(words)


class LineView:
    """Lines for people: one for all and one each worker, redrawn; in a log, one for all."""

    def __init__(self, stream: TextIO) -> None:
        self._options = dict(line_options(stream)) | {"mininterval": 0.0}
        self._redrawn = bool(self._options["dynamic_ncols"])
        self.every_s = 0.2 if self._redrawn else LOG_EVERY_S
        self._stream = stream
        self._bar: tqdm | None = None
        self._lines: list[tqdm] = []

    def draw(self, shown: Shown) -> None:
        """Draw all lines anew."""
        text = total_line(shown)
        if not self._redrawn:
            self.say(text + _in_log(shown))
            return
        if self._bar is None:
            bar_format = BAR + "{desc}"
            self._bar = tqdm(total=shown.n_clips, **self._options | {"bar_format": bar_format})
        self._bar.n = shown.n_done
        self._bar.set_description_str(text)
        self._draw_workers([] if shown.over else _on_terminal(shown.others))

    def _draw_workers(self, texts: list[str]) -> None:
        while len(self._lines) < len(texts):
            options = self._options | {"bar_format": "{desc}", "position": len(self._lines) + 1}
            self._lines.append(tqdm(total=0, leave=False, **options))
        for row, line in enumerate(self._lines):
            line.set_description_str(texts[row] if row < len(texts) else "")

    def say(self, text: str) -> None:
        """Write above the lines."""
        if self._redrawn:
            tqdm.write(text, file=self._stream)
        else:
            self._stream.write(text + "\n")
            self._stream.flush()

    def close(self, last: Shown | None) -> None:
        """Take the workers' lines away and leave that of all, if it has anything to say."""
        for line in reversed(self._lines):
            line.close()
        self._lines = []
        if last is not None:
            self.draw(last)
        if self._bar is not None:
            self._bar.leave = last is not None
            self._bar.close()


def _on_terminal(workers: Mapping[str, Pace]) -> list[str]:
    names = list(workers)
    if len(names) <= MAX_LINES:
        return [worker_line(name, workers[name], names) for name in names]
    shown = names[: MAX_LINES - 1]
    rest = {name: workers[name] for name in names[MAX_LINES - 1 :]}
    return [*(worker_line(name, workers[name], names) for name in shown), of_all(rest, "more ")]


def _in_log(shown: Shown) -> str:
    workers = {} if shown.over else shown.others
    if len(workers) > MAX_IN_LOG:
        return "  |" + of_all(workers)
    return "".join(f"  |{worker_line(name, pace)}" for name, pace in workers.items())


class JsonView:
    """One JSON object a line, every ten seconds and whenever there is something to say."""

    every_s = LOG_EVERY_S

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def draw(self, shown: Shown) -> None:
        """Write how things stand: in all, and worker by worker."""
        left_s = shown.left_s
        self._write(
            event="end" if shown.over else "progress",
            label=shown.label,
            elapsed_s=round(shown.elapsed_s, 3),
            n_clips=shown.n_clips,
            n_done=shown.n_done,
            n_ok=int(shown.total.n_ok),
            n_empty=int(shown.total.n_empty),
            n_failed=int(shown.total.n_failed),
            clips_per_s=round(shown.clips_per_s, 3),
            media_per_s=round(shown.media_per_s, 3),
            left_s=None if left_s is None else round(left_s, 1),
            workers=[
                {"name": name, **{key: _rounded(value) for key, value in asdict(pace).items()}}
                for name, pace in shown.workers.items()
            ],
        )

    def say(self, text: str) -> None:
        """Write a message."""
        self._write(event="message", text=text)

    def close(self, last: Shown | None) -> None:
        """Write how things stand in the end."""
        if last is not None:
            self.draw(last)

    def _write(self, **facts: object) -> None:
        self._stream.write(json.dumps(facts) + "\n")
        self._stream.flush()


def _rounded(value: float | str) -> float | str:
    return value if isinstance(value, str) else round(value, 3)


class NoView:
    """Messages only."""

    every_s = float("inf")

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def draw(self, shown: Shown) -> None:
        """Show nothing."""

    def say(self, text: str) -> None:
        """Write a message."""
        self._stream.write(text + "\n")
        self._stream.flush()

    def close(self, last: Shown | None) -> None:
        """Show nothing."""
