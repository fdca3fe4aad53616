"""Loading features for training: three modalities of 120,625 clips from a store, against numpy.

The baseline of the same round reads the same bytes with `np.fromfile`, one file a modality. The store is read
as trainers do, for a shuffled clip list, with the checksum of every chunk verified.

    python benchmarks/loading.py --scale 1 --rounds 5
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from real_size import WIDTHS, real_size_store

from mer_store.clips.clip_list import ClipList
from mer_store.store.store import Store
from pipelines.train.choices import FeatureChoice
from pipelines.train.features import open_features
from pipelines.train.roster import Roster, make_roster

CLASSES = ("neutral", "anger", "happiness", "sadness", "worry", "surprise")
LAYERS = {"audio": "18", "visual": "embed", "text": "40"}
TARGET = 1.2


def read_store(path: Path, roster: Roster) -> int:
    """Read all three modalities as a trainer does; return the bytes."""
    store = Store.open(path)
    n_bytes = 0
    for modality, layers in LAYERS.items():
        features = open_features(store, modality, FeatureChoice(layers=layers), roster)
        n_bytes += features.values.nbytes
    return n_bytes


def read_raw(folder: Path) -> int:
    """Read the same bytes with numpy."""
    return sum(np.fromfile(folder / f"{name}.raw", np.float16).nbytes for name in LAYERS)


def write_raw(store: Path, roster: Roster, folder: Path) -> None:
    """Write what the store holds as one file a modality."""
    opened = Store.open(store)
    for modality, layers in LAYERS.items():
        values = open_features(opened, modality, FeatureChoice(layers=layers), roster).values
        values.tofile(folder / f"{modality}.raw")


def forget_pages(folder: Path) -> None:
    """Drop a folder's files from the page cache."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def timed(job: Callable[[], int]) -> tuple[float, int]:
    """Return seconds and bytes."""
    started_s = time.perf_counter()
    n_bytes = job()
    return time.perf_counter() - started_s, n_bytes


def compare(folder: Path, store: Path, roster: Roster, rounds: int, *, cold: bool) -> None:
    """Print the ratio of the store's time to numpy's, over interleaved rounds."""
    ours, theirs = [], []
    jobs = [(ours, lambda: read_store(store, roster)), (theirs, lambda: read_raw(folder))]
    for number in range(rounds + 1):
        for times, job in jobs if number % 2 else jobs[::-1]:
            if cold:
                forget_pages(folder)
            seconds, n_bytes = timed(job)
            if number:  # the first round fills the page cache
                times.append(seconds)
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    speed = n_bytes / 1e9
    print(
        f"{'cold' if cold else 'warm'}: {statistics.median(ratios):.2f} x numpy (target < {TARGET}), "
        f"rounds {min(ratios):.2f} to {max(ratios):.2f}; {speed / statistics.median(ours):.2f} GB/s against "
        f"{speed / statistics.median(theirs):.2f}"
    )


def main() -> None:
    """Measure both part sizes, warm and cold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=0.25, help="1 is 120,625 clips")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--part-clips", type=int, nargs="+", default=[16384, 1024])
    options = parser.parse_args()
    for part_clips in options.part_clips:
        with tempfile.TemporaryDirectory(prefix="mer-store-") as name:
            folder = Path(name)
            planted = real_size_store(folder / "planted", options.scale, part_clips)
            clips = list(ClipList.read(planted.clips).clips)
            order = np.random.default_rng(0).permutation(len(clips))
            roster = make_roster([clips[row] for row in order], CLASSES)
            write_raw(planted.store, roster, folder)
            n_gb = sum(2 * width for width in WIDTHS.values()) * len(clips) / 1e9
            print(f"{len(clips)} clips, {n_gb:.2f} GB, parts of {part_clips} clips")
            for cold in (False, True):
                compare(folder, planted.store, roster, options.rounds, cold=cold)


if __name__ == "__main__":
    main()
