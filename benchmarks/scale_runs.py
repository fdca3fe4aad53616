"""One run of the engine over the fake device, and what is looked at meanwhile and afterwards."""

import resource
import threading
import time
from array import array
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from scale_device import (
    LAYERS,
    Pass,
    clip_id_of,
    features_of,
    make_clips,
    read_log,
    use_fake_device,
)

from extractors.contract import ExtractorRequest
from mer_store.store.store import Store
from pipelines import resident
from pipelines.extract import ExtractSettings, prepare
from pipelines.run import RunReport
from pipelines.workers import Workers

N_CHECKED = 1024


@dataclass(frozen=True)
class Setup:
    """What is run."""

    folder: Path
    """Empty or not there."""
    n_clips: int
    rate: float
    """Audio seconds a device deals with in a second."""
    width: int = 1024
    n_workers: int | None = None
    """None is this process alone."""
    part_clips: int = 1024

    @property
    def log(self) -> Path:
        """Where the devices keep their logs."""
        return self.folder / "log"


@dataclass(frozen=True)
class Ran:
    """What a run did."""

    setup: Setup
    report: RunReport
    planning_s: float
    wall_s: float
    memory: "Memory"

    @property
    def passes(self) -> dict[str, list[Pass]]:
        """What each process's device did, by the name of its log."""
        return {path.name: read_log(path) for path in self.setup.log.iterdir()}


class Memory:
    """Watches this process's memory, from a thread of its own."""

    def __init__(self) -> None:
        self._at_s, self._n_bytes = array("d"), array("q")  # small, not to be seen themselves
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            self._look()

    def _look(self) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self._at_s.append(time.monotonic())
        self._n_bytes.append(pages * resource.getpagesize())

    def peak(self, share: float = 1.0) -> int:
        """Return the most bytes that were resident in the first `share` of the time."""
        until_s = self._at_s[0] + share * (self._at_s[-1] - self._at_s[0])
        return max(self._n_bytes[: bisect_right(self._at_s, until_s)])


def run(setup: Setup) -> Ran:
    """Extract all clips into a new store."""
    setup.folder.mkdir(parents=True, exist_ok=True)
    use_fake_device(setup.folder, setup.rate, setup.width)
    resident.let_go()
    clip_list = make_clips(setup.folder, setup.n_clips)
    settings = ExtractSettings(
        ExtractorRequest("audio", device="cpu"), part_clips=setup.part_clips,
        workers=Workers(setup.n_workers, device="cpu"), progress="none",
    )  # fmt: skip
    started_s = time.perf_counter()
    extraction = prepare(Store.create(setup.folder / "store"), clip_list, settings)
    planned_s = time.perf_counter()
    with Memory() as memory:
        report = extraction.run()
    wall_s = time.perf_counter() - planned_s
    return Ran(setup, report, planned_s - started_s, wall_s, memory)


@dataclass(frozen=True)
class Found:
    """What a store holds of the clips that were to be stored."""

    n_lost: int
    """Clips without features."""
    n_blamed: int
    """Clips recorded as failed."""
    n_twice: int
    """Clips that are stored more than once."""
    n_wrong: int
    """Clips of a sample whose features are not what their device made."""
    n_parts: int


def look(setup: Setup) -> Found:
    """Read the store, and compare the features of a sample of its clips with what they should be."""
    features = Store.open(setup.folder / "store").features("audio")
    records = features.records()
    ok = Counter(row.clip_id for one in records for row in one.ledger if row.status == "ok")
    n_blamed = sum(row.status == "failed" for one in records for row in one.ledger)
    rng = np.random.default_rng(1)
    numbers = rng.permutation(setup.n_clips)[:N_CHECKED].tolist()
    numbers = [number for number in numbers if clip_id_of(number) in ok]
    stored = features.read(layers=LAYERS, clip_ids=[clip_id_of(number) for number in numbers])
    n_wrong = sum(
        any(
            not np.array_equal(rows[at], features_of(number, layer, setup.width))
            for at, layer in enumerate(LAYERS)
        )
        for number, rows in zip(numbers, stored, strict=True)
    )
    return Found(
        n_lost=setup.n_clips - len(ok),
        n_blamed=n_blamed,
        n_twice=sum(n > 1 for n in ok.values()),
        n_wrong=n_wrong,
        n_parts=len(records),
    )
