"""A second `extract` with nothing to do, look-ups and `status`: 115,595 clips of a fake extractor.

The clips are tiny files on this disk, so that every one is looked at (its size and time), as a real
run does. The baseline of the same run is looking at those files alone.

python benchmarks/nothing_to_do.py --clips 115595
"""

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from target import at_most

from extractors import table
from extractors.contract import (
    Blob,
    ExtractorRequest,
    Identity,
    Loaded,
    Origin,
    Source,
    States,
    Want,
)
from mer_store.clips.clip_list import Clip, ClipList
from mer_store.store.store import Store
from pipelines.extract import ExtractSettings, prepare

WIDTH = 64
LAYERS = tuple(range(16, 22))


class FakeExtractor:
    """Features at the speed of a random generator."""

    batch_limit = 4096
    equal_sizes = False

    def __init__(self, request: ExtractorRequest) -> None:
        self.identity = Identity(
            request.modality, "fake", "sha256:0", "default", {}, "mean", "float32", False, LAYERS,
            dict.fromkeys(LAYERS, WIDTH), LAYERS,
        )  # fmt: skip

    def path(self, source: Source) -> Path | None:
        """Return the clip's file."""
        return source.path

    def open(self, source: Source) -> Blob:
        """Read the clip's file."""
        data = source.path.read_bytes()
        status = source.path.stat()
        origin = Origin("sha256:" + hashlib.sha256(data).hexdigest(), len(data), status.st_mtime_ns)
        return Blob(source.clip_id, origin, source.path, data)

    def load(self, blob: Blob) -> Loaded:
        """Return the clip as it is."""
        return Loaded(blob.clip_id, blob.data, 1, 3.13, 1)

    def __call__(self, batch: list[Loaded], want: Want) -> list[States]:
        """Return ones."""
        row = np.ones(WIDTH, np.float32)
        return [States(utterance=dict.fromkeys(want.utterance, row)) for _ in batch]


def make_corpus(folder: Path, n_clips: int) -> ClipList:
    """Write `n_clips` tiny files, a thousand to a folder."""
    clips = []
    for number in range(n_clips):
        path = folder / f"{number // 1000:03}" / f"sample_{number:08}.mp4"
        if number % 1000 == 0:
            path.parent.mkdir()
        path.write_text(str(number))
        clips.append(Clip(path.stem, path, None, None, None, None))
    return ClipList(tuple(clips), path=folder / "clips.csv")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=115_595)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    table.EXTRACTORS["audio"] = f"{__name__}:FakeExtractor"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip_list = make_corpus(folder, options.clips)
        clip_list.write(folder / "clips.csv")
        settings = ExtractSettings(ExtractorRequest("audio"), progress="none")
        started_s = time.perf_counter()
        report = prepare(Store.create(folder / "store"), clip_list, settings).run()
        first_s = time.perf_counter() - started_s
        assert report.tally.n_ok == options.clips
        print(
            f"  {options.clips:,} clips; first run, fake extractor: {options.clips / first_s:.0f} clips/s"
        )
        rounds = range(options.rounds)
        stat_s = statistics.median(stats_s(clip_list) for _ in rounds)
        again_s = statistics.median(again_in_s(folder, settings) for _ in rounds)
        clip_ids = [clip.clip_id for clip in clip_list.clips]
        look_s = statistics.median(look_up_s(folder, clip_ids, number) for number in rounds)
        status_s = statistics.median(
            command_s("status", "--store", folder / "store") for _ in rounds
        )
        help_s = statistics.median(help_cpu_s() for _ in rounds)
    print(f"  looking at the files alone: {stat_s:.2f} s; extract is {again_s / stat_s:.1f} x that")
    at_most("extract with nothing to do", again_s, 3, " s")
    at_most("opening, and 1,024 clips looked up", look_s, 0.3, " s")
    at_most("mer-store status", status_s, 1, " s")
    at_most("CPU of mer-store --help", help_s, 0.5, " s")


def stats_s(clip_list: ClipList) -> float:
    """Seconds to look at every file."""
    started_s = time.perf_counter()
    for clip in clip_list.clips:
        os.stat(clip.path)  # noqa: PTH116 - the least there is
    return time.perf_counter() - started_s


def again_in_s(folder: Path, settings: ExtractSettings) -> float:
    """Seconds of the clip list and the plan, where all is there."""
    started_s = time.perf_counter()
    clip_list = ClipList.read(folder / "clips.csv")
    extraction = prepare(Store.open(folder / "store"), clip_list, settings)
    extraction.run()
    elapsed_s = time.perf_counter() - started_s
    assert not extraction.plan.parts
    return elapsed_s


def look_up_s(folder: Path, clip_ids: list[str], seed: int) -> float:
    """Seconds to open the store and read 1,024 clips at random, one layer."""
    rng = np.random.default_rng(seed)
    chosen = [clip_ids[row] for row in rng.integers(0, len(clip_ids), 1024)]
    started_s = time.perf_counter()
    read = Store.open(folder / "store").features("audio").read(layers=[18], clip_ids=chosen)
    elapsed_s = time.perf_counter() - started_s
    assert read.shape == (1024, 1, WIDTH)
    assert (read == 1).all()
    return elapsed_s


def command_s(*arguments: str | Path) -> float:
    """Seconds of a command of mer-store, from its start to its end."""
    command = [str(Path(sys.executable).with_name("mer-store")), *map(str, arguments)]
    started_s = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started_s


def help_cpu_s() -> float:
    """CPU seconds of `mer-store --help`, user and system."""
    before = os.times()
    command = [str(Path(sys.executable).with_name("mer-store")), "--help"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return (
        after.children_user + after.children_system - before.children_user - before.children_system
    )


if __name__ == "__main__":
    main()
