"""Jobs timed in interleaved rounds, each against the limit of its round."""

import gc
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from storage_data import drop_from_memory
from target import at_least

Job = Callable[[], object]
Prepare = Callable[[], Job]


@dataclass(frozen=True)
class Way:
    """One way to do a job."""

    prepare: Prepare
    """Makes the job; not timed."""
    checks: str = "nothing"
    """What it checks of the bytes it reads or writes."""
    target: float | None = None
    """Of its ratio to the limit."""
    why: str = ""
    """What a miss is known to come from."""

    def prepared(self, change: Callable[[Prepare], Prepare]) -> "Way":
        """Return it prepared in another way."""
        return Way(change(self.prepare), self.checks, self.target, self.why)


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    job: str
    how: str
    checks: str
    ratio: float
    taken_ms: float
    target: float | None
    why: str


class Bench:
    """Runs jobs in interleaved rounds and keeps their ratios to the first of each."""

    def __init__(self, n_rounds: int) -> None:
        self.n_rounds = n_rounds
        self.lines: list[Line] = []

    def run(self, title: str, ways: dict[str, Way], n_calls: int = 1) -> None:
        """Time each way once a round; the first one is the limit, timed before every other.

        A job makes `n_calls` calls; the table shows what one takes.
        """
        (_, limit), *others = ways.items()
        limits_s: list[float] = []
        pairs: dict[str, list[tuple[float, float]]] = {how: [] for how, _ in others}
        for _ in range(self.n_rounds):
            for how, way in others:
                limits_s.append(_taken_s(limit) / n_calls)
                pairs[how].append((limits_s[-1], _taken_s(way) / n_calls))
        self._keep(title, next(iter(ways)), limit, 1.0, limits_s)
        for how, way in others:
            ratio = statistics.median(low / own for low, own in pairs[how])
            self._keep(title, how, way, ratio, [own for _, own in pairs[how]])
        print(".", end="", file=sys.stderr, flush=True)

    def _keep(self, title: str, how: str, way: Way, ratio: float, taken_s: list[float]) -> None:
        # Not the way itself: it may hold mapped files, of which the kernel would keep what the next job is
        # to find on the disk alone.
        taken_ms = statistics.median(taken_s) * 1e3
        self.lines.append(Line(title, how, way.checks, ratio, taken_ms, way.target, way.why))

    def show(self) -> None:
        """Print the table, then the lines that have a target."""
        print(file=sys.stderr)
        print(
            "| job | how | checks | ratio to the limit | target | ms |\n|---|---|---|---:|---:|---:|"
        )
        for line in self.lines:
            target = "" if line.target is None else f">= {line.target}"
            print(
                f"| {line.job} | {line.how} | {line.checks} | {line.ratio:.3g} | {target} "
                f"| {line.taken_ms:.3g} |"
            )
        print()
        for line in self.lines:
            if line.target is not None:
                at_least(f"{line.job}: {line.how}", line.ratio, line.target, why=line.why)


def _taken_s(way: Way) -> float:
    job = way.prepare()
    started_s = time.perf_counter()
    result = job()
    taken_s = time.perf_counter() - started_s
    del result, job
    return taken_s


def in_turn(jobs: Sequence[Job]) -> Job:
    """Return a job that does several, and drops what each returns."""

    def do_all() -> None:
        for job in jobs:
            job()

    return do_all


def warm(make: Prepare) -> Prepare:
    """Prepare a job once and run it once, so that all it reads is in memory and checked."""
    made: list[Job] = []

    def prepare() -> Job:
        if not made:
            made.append(make())
            made[0]()
        return made[0]

    return prepare


def cold(root: Path) -> Callable[[Prepare], Prepare]:
    """Return a change to jobs: each is made anew after the kernel has forgotten all files below `root`."""

    def change(make: Prepare) -> Prepare:
        def prepare() -> Job:
            gc.collect()  # mapped files the kernel would keep
            drop_from_memory(root)
            return make()

        return prepare

    return change
