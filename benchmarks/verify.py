"""Verifying a store against hashing the same bytes: the speed of `verify`, where plain SHA-256 is 1.0.

The baseline of the same round hashes the very same files with a thread a processor, block by block.

    python benchmarks/verify.py                        a quarter of a gigabyte, half a minute
    python benchmarks/verify.py --megabytes 2000 --rounds 7
"""

import argparse
import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from target import at_least

from mer_store.spec import Spec
from mer_store.store.store import Store
from mer_store.store.verify import verify
from mer_store.store.writer import ClipRows, PartWriter

WIDTH = 1024
LAYERS = tuple(range(16, 22))
TARGET = 0.7
#: What is known of a miss.
WHY = "an eighth is crc32c of the same bytes; reading and comparing the records takes 2 us a clip"
FRAME_ROWS = 160
_BLOCK_BYTES = 1 << 20


def write_store(path: Path, level: str, n_bytes: int, part_clips: int) -> Store:
    """Write a store of six layers of about so many bytes."""
    spec = Spec("audio", level, "bench", "0", "default", {}, "mean", "float32", "float16", False)
    store = Store.create(path)
    feature_set = store.ensure(spec)
    n_rows = FRAME_ROWS if level == "frame" else 1
    rows = np.random.default_rng(0).standard_normal((n_rows, WIDTH)).astype(np.float16)
    n_clips = n_bytes // (rows.nbytes * len(LAYERS))
    for start in range(0, n_clips, part_clips):
        with PartWriter(feature_set, LAYERS) as writer:
            for number in range(start, min(start + part_clips, n_clips)):
                clip_id = f"samplenew3_{number:08d}"
                digest = f"sha256:{number:064x}"
                layers = dict.fromkeys(LAYERS, rows)
                writer.add(ClipRows(clip_id, "ok", None, digest, 1, 1, layers))
            writer.commit()
    return store


def hash_files(store: Store, n_threads: int) -> int:
    """Hash every file of every part, several at once; return the bytes."""
    paths = [path for path in store.path.glob("features/*/*/parts/**/*") if path.is_file()]

    def run(path: Path) -> int:
        digest, buffer, n_bytes = hashlib.sha256(), bytearray(_BLOCK_BYTES), 0
        with path.open("rb", buffering=0) as file:
            while n := file.readinto(buffer):
                digest.update(memoryview(buffer)[:n])
                n_bytes += n
        return n_bytes

    with ThreadPoolExecutor(n_threads) as pool:
        return sum(pool.map(run, paths))


def check(store: Store, *, deep: bool) -> None:
    """Verify, with as many threads as it takes by itself, and stop where anything is found."""
    if found := verify(store, deep=deep):
        raise SystemExit(f"{store.path}: {found[0]}")


def compare(store: Store, label: str, n_rounds: int, n_threads: int) -> None:
    """Print a row of the table for each way to verify, by interleaved rounds."""
    n_bytes = hash_files(store, n_threads)  # and fills the page cache
    jobs: dict[str, Callable[[], object]] = {
        "sha256": lambda: hash_files(store, n_threads),
        "verify": lambda: check(store, deep=False),
        "verify --deep": lambda: check(store, deep=True),
    }
    taken_s: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(n_rounds):
        names = list(jobs)
        for name in names[number % 3 :] + names[: number % 3]:
            started_s = time.perf_counter()
            jobs[name]()
            taken_s[name].append(time.perf_counter() - started_s)
    for name, own_s in taken_s.items():
        ratios = [limit / own for own, limit in zip(own_s, taken_s["sha256"], strict=True)]
        print(
            f"| {label} | {n_threads} | {name} | {statistics.median(ratios):.2f} "
            f"| {min(ratios):.2f} to {max(ratios):.2f} "
            f"| {n_bytes / statistics.median(own_s) / 1e6:.0f} |",
            flush=True,
        )
        if name == "verify":
            at_least(f"verify against sha256, {label}", statistics.median(ratios), TARGET, why=WHY)


def main() -> None:
    """Measure frames and utterances, in large parts and in small ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=250, help="of each store")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    n_threads = len(os.sched_getaffinity(0))
    print(
        f"{options.megabytes} MB a store, load of the machine {os.getloadavg()[0]:.1f}; "
        f"target >= {TARGET} x sha256\n\n"
        f"| parts | threads | job | x sha256 | rounds | MB/s |\n|---|---:|---|---:|---|---:|"
    )
    sizes = {
        "frames, 64 clips": ("frame", 64),
        "utterances, 16,384 clips": ("utterance", 16384),
        "utterances, 1,024 clips": ("utterance", 1024),
    }
    with tempfile.TemporaryDirectory(prefix="mer-store-") as name:
        for number, (label, (level, part_clips)) in enumerate(sizes.items()):
            folder = Path(name) / str(number)
            store = write_store(folder, level, options.megabytes * 10**6, part_clips)
            compare(store, label, options.rounds, n_threads)


if __name__ == "__main__":
    main()
