"""How long the clip list of the whole MER2024 takes: 5,030 + 115,595 clips, as empty files.

Ratios are to reading the same CSV with the csv module alone and to listing the folders with scandir alone,
in interleaved rounds.

    python benchmarks/clips.py
    python benchmarks/clips.py --unlabelled 2000 --rounds 5
"""

import argparse
import csv
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from mer_store.clips.clip_list import ClipList
from mer_store.clips.mer2024 import LABELLED, LABELS, TRANSCRIPTS, UNLABELLED, from_mer2024

WORDS = ("neutral", "angry", "happy", "sad", "worried", "surprise")
TEXT = "今天天气很好，我们一起出去走走吧"


def make_layout(folder: Path, n_labelled: int, n_unlabelled: int) -> None:
    """Write the organisers' layout with empty videos."""
    labelled = [f"samplenew_{k:08d}" for k in range(n_labelled)]
    others = [f"sample_{k:08d}" for k in range(n_unlabelled)]
    for part, names in ((LABELLED, labelled), (UNLABELLED, others)):
        (folder / part).mkdir()
        for name in names:
            (folder / part / f"{name}.mp4").touch()
    rows = [f"{name},{WORDS[k % 6]},0.1" for k, name in enumerate(labelled)]
    (folder / LABELS).write_text("\n".join(["name,discrete,valence", *rows]), "utf-8")
    rows = [f"{name},{TEXT}" for name in labelled + others]
    (folder / TRANSCRIPTS).write_text("\n".join(["name,chinese", *rows]), "utf-8")


def scan(folder: Path) -> int:
    """List both video folders and nothing else."""
    return sum(len(list(os.scandir(folder / part))) for part in (LABELLED, UNLABELLED))


def read_bare(path: Path) -> int:
    """Read the rows and nothing else."""
    with path.open(encoding="utf-8", newline="") as file:
        return len(list(csv.reader(file)))


def measure(jobs: dict[str, Callable[[], object]], n_rounds: int) -> dict[str, float]:
    """Return the median seconds of each job, in interleaved rounds."""
    times: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(n_rounds):
        for name, job in jobs.items():
            started_s = time.perf_counter()
            job()
            times[name].append(time.perf_counter() - started_s)
    return {name: statistics.median(found) for name, found in times.items()}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labelled", type=int, default=5030)
    parser.add_argument("--unlabelled", type=int, default=115_595)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, path = Path(name), Path(name) / "clips.csv"
        make_layout(folder, options.labelled, options.unlabelled)
        clips = from_mer2024(folder)
        clips.write(path)
        medians = measure(
            {
                "scandir alone": lambda: scan(folder),
                "csv module alone": lambda: read_bare(path),
                "from_mer2024": lambda: from_mer2024(folder),
                "write": lambda: clips.write(path),
                "read": lambda: ClipList.read(path),
                "missing_files": clips.missing_files,
            },
            options.rounds,
        )
        print(f"{len(clips.clips):,} clips; times over the bare job they contain")
        bare = {"from_mer2024": "scandir alone", "missing_files": "scandir alone"}
        for job, median_s in medians.items():
            ratio = (
                median_s / medians[bare.get(job, "csv module alone" if "alone" not in job else job)]
            )
            print(f"  {job:18} {ratio:6.1f} x   {median_s:7.3f} s")


if __name__ == "__main__":
    main()
