"""Loading features for training: three modalities of MER2024's 115,595 clips from a store, against numpy.

The baseline of the same round reads the same bytes with `np.fromfile`, one plain file a modality. The store
is opened anew each time, so its index is read and the checksum of every chunk verified. 1.0 is numpy's time.

    python benchmarks/loading.py                       two minutes
    python benchmarks/loading.py --rounds 9
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from target import at_most

from mer_store.spec import Spec
from mer_store.store.asked import Asked
from mer_store.store.store import Store
from mer_store.store.writer import ClipRows, PartWriter

WIDTHS = {"audio": 1024, "visual": 768, "text": 5120}
LAYER = 18
FROM_NUMPY, IN_ORDER, AS_TRAINERS = "np.fromfile", "read, list as stored", "locate and read"
FIND = "open, index, find"
#: Cache and job -> the most times numpy's time that it should take, every checksum verified: half of numpy's
#: speed where a layer is read by ids, 0.95 of it where the disk sets the pace.
TARGETS = {
    ("warm", AS_TRAINERS): 1.2,
    ("warm", IN_ORDER): 2.0,
    ("cold", AS_TRAINERS): 1.05,
    ("cold", IN_ORDER): 1.05,
}
#: Rows that differ; clip n has row n modulo this many.
N_ROWS = 4099

Arrays = list[NDArray[Any]]


@dataclass(frozen=True)
class Corpus:
    """A store and plain files of the same features, the files in the order of a shuffled list."""

    store: Path
    raw: Path
    stored: list[str]
    """Clip ids in the order in which they were stored."""
    shuffled: list[str]

    def read_raw(self) -> Arrays:
        """Read all with numpy."""
        return [
            np.fromfile(self.raw / name, np.float16).reshape(-1, 1, width)
            for name, width in WIDTHS.items()
        ]

    def read(self, clip_ids: Sequence[str]) -> Arrays:
        """Read all from the store, in the order of a list."""
        store = Store.open(self.store)
        return [store.features(name).read([LAYER], clip_ids) for name in WIDTHS]

    def read_located(self) -> Arrays:
        """Read all as trainers do: as it lies on disk, with each clip's row told beside it."""
        store, asked = Store.open(self.store), Asked.of(self.shuffled)
        return [store.features(name).locate([LAYER], asked).read() for name in WIDTHS]

    def find(self) -> Arrays:
        """Open the store, read its index and find every clip in it, but read no features."""
        store, asked = Store.open(self.store), Asked.of(self.shuffled)
        return [store.features(name).locate([LAYER], asked).row for name in WIDTHS]


def write_corpus(folder: Path, raw: Path, n_clips: int, part_clips: int) -> Corpus:
    """Write a store of `n_clips` clips and, where they are missing, the plain files."""
    ids = [f"samplenew3_{number:08d}" for number in range(n_clips)]
    order = np.random.default_rng(0).permutation(n_clips)
    corpus = Corpus(folder / "store", raw, ids, [ids[number] for number in order.tolist()])
    store = Store.create(corpus.store)
    raw.mkdir(exist_ok=True)
    for modality, width in WIDTHS.items():
        rows = rows_like_embeddings(min(n_clips, N_ROWS), width)
        write_parts(store, modality, ids, rows, part_clips)
        if not (raw / modality).exists():
            rows[order % len(rows)].tofile(raw / modality)
    return corpus


def rows_like_embeddings(n_rows: int, width: int) -> NDArray[np.float16]:
    """Return rows [n, D] with the spread of a transformer's states."""
    rng = np.random.default_rng(width)
    return (rng.standard_normal((n_rows, width), dtype=np.float32) * 0.3).astype(np.float16)


def write_parts(
    store: Store, modality: str, ids: Sequence[str], rows: NDArray[np.float16], part_clips: int
) -> None:
    """Write one modality in parts of so many clips."""
    spec = Spec(
        modality, "utterance", "bench", "0", "default", {}, "mean", "float32", "float16", False
    )
    feature_set = store.ensure(spec)
    for start in range(0, len(ids), part_clips):
        with PartWriter(feature_set, [LAYER]) as writer:
            for number in range(start, min(start + part_clips, len(ids))):
                row = number % len(rows)
                writer.add(
                    ClipRows(
                        ids[number],
                        "ok",
                        digest=f"sha256:{number:064x}",
                        n_bytes=1,
                        mtime_ns=1,
                        layers={LAYER: rows[row : row + 1]},
                    )
                )
            writer.commit()


def forget_pages(*folders: Path) -> None:
    """Drop the files of folders from the page cache."""
    os.sync()
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                descriptor = os.open(path, os.O_RDONLY)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)


def check(corpus: Corpus) -> None:
    """Stop where the store does not give the very bytes of the plain files."""
    for ours, theirs in zip(corpus.read(corpus.shuffled), corpus.read_raw(), strict=True):
        if not np.array_equal(ours.view(np.uint16), theirs.view(np.uint16)):
            raise SystemExit(f"{corpus.store}: the rows differ from those of {corpus.raw}")


def compare(corpus: Corpus, n_rounds: int, *, cold: bool) -> dict[tuple[str, str], float]:
    """Print a row of the table for each job, by interleaved rounds; return cache and job -> x numpy."""
    jobs: dict[str, Callable[[], Arrays]] = {
        FROM_NUMPY: corpus.read_raw,
        "read, shuffled list": lambda: corpus.read(corpus.shuffled),
        IN_ORDER: lambda: corpus.read(corpus.stored),
        AS_TRAINERS: corpus.read_located,
        FIND: corpus.find,
    }
    taken_s: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(n_rounds):
        names = list(jobs)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            if cold:
                forget_pages(corpus.store, corpus.raw)
            started_s = time.perf_counter()
            arrays = jobs[name]()
            taken_s[name].append(time.perf_counter() - started_s)
            del arrays
    cache, medians = "cold" if cold else "warm", {}
    limit_s = taken_s[FROM_NUMPY]
    for name, own_s in taken_s.items():
        ratios = [own / limit for own, limit in zip(own_s, limit_s, strict=True)]
        medians[cache, name] = statistics.median(ratios)
        print(
            f"| {cache} | {name} | {medians[cache, name]:.2f} "
            f"| {min(ratios):.2f} to {max(ratios):.2f} | {statistics.median(own_s) * 1e3:.0f} "
            f"| {min(own_s) * 1e3:.0f} |",
            flush=True,
        )
    return medians


def show_targets(medians: dict[tuple[str, str], float], part_clips: int) -> None:
    """Print the jobs that have a target."""
    print()
    for (cache, job), target in TARGETS.items():
        name = f"{cache}, {job}, parts of {part_clips} clips: time / np.fromfile"
        why = f"{medians[cache, FIND]:.2f} of it opens the store and finds the clips"
        at_most(name, medians[cache, job], target, why=why)


def main() -> None:
    """Measure each size of part, warm and cold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=115_595)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--part-clips", type=int, nargs="+", default=[16384, 1024])
    options = parser.parse_args()
    n_bytes = options.clips * sum(WIDTHS.values()) * np.dtype(np.float16).itemsize
    with tempfile.TemporaryDirectory(prefix="mer-store-") as name:
        for part_clips in options.part_clips:
            folder = Path(name) / str(part_clips)
            folder.mkdir()
            corpus = write_corpus(folder, Path(name) / "raw", options.clips, part_clips)
            check(corpus)  # and fills the page cache
            print(
                f"\n{options.clips} clips, {n_bytes / 1e9:.2f} GB, parts of {part_clips} clips; load of the "
                f"machine {os.getloadavg()[0]:.1f}\n\n"
                f"| cache | job | x numpy | rounds | median ms | best ms |\n|---|---|---:|---|---:|---:|"
            )
            warm = compare(corpus, options.rounds, cold=False)
            cold = compare(corpus, options.rounds, cold=True)
            show_targets(warm | cold, part_clips)


if __name__ == "__main__":
    main()
