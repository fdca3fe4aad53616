"""Workers killed at random while they work: nothing is lost, little is done again, and no clip is blamed."""

import argparse
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scale_device import N_CLIPS, Pass
from scale_runs import Ran, Setup, look, run
from target import at_least, at_most

#: Kills of the whole corpus.
N_KILLS = 500
#: A worker's start costs seconds of CPU: devices slow enough that most of the time is theirs.
RATE = 60.0
#: What may be done again, with a margin for bad luck.
SHARE = 0.016


def killed(folder: Path, options: argparse.Namespace) -> None:
    """Kill workers spread over the run; then look at what is stored."""
    n_kills = options.kills or max(1, round(N_KILLS * options.clips / N_CLIPS))
    # A kill loses half a part on average.
    part_clips = options.part_clips or max(1, int(2 * SHARE * options.clips / n_kills))
    setup = Setup(
        folder, options.clips, options.rate or RATE, options.width, options.workers, part_clips
    )
    expected = n_kills * part_clips / 2 / setup.n_clips
    print(
        f"  {setup.n_clips:,} clips, {setup.n_workers} workers, {n_kills} kills; a kill loses half a part "
        f"on average: parts of {part_clips} clips, to repeat {expected:.2%}",
        flush=True,
    )
    killer = Killer(setup, n_kills)
    with killer.at_work():
        ran = run(setup)
    found = look(setup)
    print(
        f"  {ran.wall_s:.0f} s, {len(killer.deaths)} workers killed, {ran.report.n_lost} parts made again, "
        f"{found.n_parts} parts; {ran.memory.peak(0.5) / 1e6:.0f} MB half way, "
        f"{ran.memory.peak() / 1e6:.0f} MB at the end"
    )
    at_least("workers killed", len(killer.deaths), n_kills)
    at_most("clips lost", found.n_lost, 0)
    at_most("clips blamed", found.n_blamed, 0)
    at_most("clips stored twice", found.n_twice, 0)
    at_most("clips of a sample with wrong features", found.n_wrong, 0)
    why = "a kill loses anything between nothing and a whole part"
    at_most("work done again", 100 * repeated(ran, killer.deaths), 2, " %", why=why)
    why = "dask keeps a little of each worker that was, and what is freed between lies in pieces"
    at_most(
        "most memory at 100 % / at 50 %", ran.memory.peak() / ran.memory.peak(0.5), 1.1, why=why
    )


def repeated(ran: Ran, deaths: dict[str, float]) -> float:
    """Return the devices' time spent on what was done before, as a share of what is needed once."""
    rate = ran.setup.rate
    spent_s = sum(
        _spent(one, rate, deaths.get(log)) for log, passes in ran.passes.items() for one in passes
    )
    return spent_s * rate / ran.report.tally.media_s - 1


def _spent(one: Pass, rate: float, death_s: float | None) -> float:
    """Return the seconds of a batch, as the device is set; in part where its process was killed in it."""
    whole_s = one.media_s / rate
    if one.ended_s is not None:
        return whole_s
    assert death_s is not None, "a worker died that nobody killed"
    return min(whole_s, death_s - one.begun_s)


class Killer:
    """Kills workers that have begun to compute, one after so many clips, from a thread of its own."""

    def __init__(self, setup: Setup, n_kills: int) -> None:
        self._setup = setup
        self._due = [(number + 0.5) * setup.n_clips / n_kills for number in range(n_kills)]
        self._logs = setup.log
        self._read: dict[str, int] = {}
        """How far each log was read."""
        self._n_begun = 0
        self._over = threading.Event()
        self._random = random.Random(0)  # noqa: S311 - no secret
        self.deaths: dict[str, float] = {}
        """When each process was killed, by the name of its log."""

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Kill while this lasts."""
        thread = threading.Thread(target=self._kill_all, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _kill_all(self) -> None:
        for due in self._due:
            while self._count() < due or not (victims := self._workers()):
                if self._over.wait(0.02):
                    return
            log = self._random.choice(victims)
            os.kill(_process(log), signal.SIGKILL)
            self.deaths[log] = time.time()
            while _is_ours(log):
                time.sleep(0.001)
            self._n_begun += self._news(self._logs / log)  # what it began since it was looked at

    def _workers(self) -> list[str]:
        """Return the logs of processes that compute, all started by this one."""
        return [log for log in self._read.keys() - self.deaths.keys() if _is_ours(log)]

    def _count(self) -> int:
        """Return how many clips were begun, those begun again included: what is new in the log, added up."""
        if self._logs.is_dir():
            alive = [path for path in self._logs.iterdir() if path.name not in self.deaths]
            self._n_begun += sum(map(self._news, alive))
        return self._n_begun

    def _news(self, path: Path) -> int:
        """Return how many clips a process has begun since its log was last read."""
        n_begun = 0
        with path.open() as file:
            file.seek(self._read.get(path.name, 0))
            for line in iter(file.readline, ""):
                if line.startswith("b") and line.endswith("\n"):
                    n_begun += int(line.split()[2])
            self._read[path.name] = file.tell()
        return n_begun


def _process(log: str) -> int:
    """Return the number of the process that writes a log."""
    return int(log.partition(".")[0])


def _is_ours(log: str) -> bool:
    try:
        text = Path(f"/proc/{_process(log)}/stat").read_text()
    except OSError:
        return False
    state, parent = text.rpartition(")")[2].split()[:2]
    return state != "Z" and int(parent) == os.getpid()
