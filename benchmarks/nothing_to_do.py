"""A second `extract` with nothing to do, on a store of 115,595 clips made by a fake extractor.

The clips are empty-ish files on this disk, so that every one is looked at (its size and time), as a real
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
        settings = ExtractSettings(ExtractorRequest("audio"))
        started_s = time.perf_counter()
        report = prepare(Store.create(folder / "store"), clip_list, settings).run()
        first_s = time.perf_counter() - started_s
        assert report.tally.n_ok == options.clips
        stats, plans, reads = [], [], []
        for _ in range(options.rounds):
            started_s = time.perf_counter()
            for clip in clip_list.clips:
                os.stat(clip.path)  # noqa: PTH116 - the least there is
            stats.append(time.perf_counter() - started_s)
            started_s = time.perf_counter()
            again = ClipList.read(folder / "clips.csv")
            reads.append(time.perf_counter() - started_s)
            extraction = prepare(Store.open(folder / "store"), again, settings)
            assert not extraction.plan.parts
            plans.append(time.perf_counter() - started_s)
        help_s = [help_cpu_s() for _ in range(options.rounds)]
    again_s, stat_s = statistics.median(plans), statistics.median(stats)
    print(f"first run, fake extractor: {options.clips / first_s:.0f} clips/s")
    print(
        f"nothing to do: {again_s:.2f} s, of which the clip list {statistics.median(reads):.2f} s "
        f"(target < 3 s); {again_s / stat_s:.1f} x the {stat_s:.2f} s of looking at the files alone"
    )
    print(f"mer-store --help: {statistics.median(help_s):.2f} s of CPU (target < 0.5 s)")


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
