"""How near to the disk's own limit the store writes and reads, beside plain files, zarr-python and h5py.

Every number is a ratio to the limit of the same round: rounds are interleaved, so that whatever else the
machine does hits all of them, and the table shows medians. 1.0 is the limit, 0.5 takes twice as long.

    python benchmarks/storage.py                       small, about a minute
    python benchmarks/storage.py --utterances 16384 --clips 1024 --rounds 5
"""

import argparse
import gc
import os
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr

from mer_store.spec import Spec
from mer_store.store.feature_set import FeatureSet
from mer_store.store.store import Store
from mer_store.store.writer import ClipRows, PartWriter

LAYERS = tuple(range(16, 22))
N_ROWS = 1024
N_CLIPS_PICKED = 16
HALF_BYTES = 2

Job = Callable[[], object]


def spec_of(level: str) -> Spec:
    pooling = "mean" if level == "utterance" else "none"
    return Spec("audio", level, "bench", "0", "default", {}, pooling, "float32", "float16", False)


def rows_like_embeddings(n_rows: int, width: int, seed: int) -> np.ndarray:
    """Return float16 rows with the spread of a transformer's states."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n_rows, width), dtype=np.float32) * 0.3).astype(np.float16)


class Data:
    """Clips of one level in memory, and everything written from them."""

    def __init__(
        self, root: Path, level: str, lengths: np.ndarray, width: int, n_parts: int
    ) -> None:
        root.mkdir(exist_ok=True)
        self.root, self.level, self.width, self.n_parts = root, level, width, n_parts
        self.ids = [f"samplenew3_{n:08d}" for n in range(len(lengths))]
        self.lengths = lengths
        self.ends = np.cumsum(lengths)
        n_rows = int(self.ends[-1])
        self.layers = {layer: rows_like_embeddings(n_rows, width, layer) for layer in LAYERS}
        self.n_bytes = n_rows * width * HALF_BYTES * len(LAYERS)
        self.clips = [
            ClipRows(
                clip_id,
                "ok",
                digest=f"sha256:{n:064x}",
                n_bytes=1,
                mtime_ns=1,
                layers={layer: rows[end - length : end] for layer, rows in self.layers.items()},
            )
            for n, (clip_id, length, end) in enumerate(
                zip(self.ids, lengths, self.ends, strict=True)
            )
        ]

    def raw_path(self, layer: int) -> Path:
        """Return the plain file of one layer."""
        return self.root / f"raw-{self.level}-{layer}"

    def write_raw(self) -> None:
        """Write a plain file a layer."""
        for layer, rows in self.layers.items():
            with self.raw_path(layer).open("wb") as file:
                rows.tofile(file)
                file.flush()
                os.fsync(file.fileno())

    def write_store(self, name: str, n_parts: int) -> FeatureSet:
        """Write a store of so many parts."""
        path = self.root / name
        shutil.rmtree(path, ignore_errors=True)
        feature_set = Store.create(path).ensure(spec_of(self.level))
        for clips in np.array_split(np.arange(len(self.clips)), n_parts):
            with PartWriter(feature_set, LAYERS) as writer:
                for number in clips.tolist():
                    writer.add(self.clips[number])
                writer.commit()
        return feature_set

    def open_hdf5(self) -> h5py.File:
        """Open what `write_hdf5` wrote."""
        return h5py.File(self.root / f"{self.level}.h5")

    def open_zarr(self) -> zarr.Group:
        """Open what `write_zarr` wrote."""
        return zarr.open_group(self.root / f"{self.level}.zarr", mode="r", zarr_format=3)

    def write_hdf5(self) -> None:
        """Write contiguous data sets."""
        with h5py.File(self.root / f"{self.level}.h5", "w") as file:
            for layer, rows in self.layers.items():
                file.create_dataset(str(layer), data=rows)
            file.flush()
            os.fsync(file.id.get_vfd_handle())

    def write_zarr(self) -> None:
        """Write shards of raw chunks, as the store's, by zarr-python."""
        path = self.root / f"{self.level}.zarr"
        shutil.rmtree(path, ignore_errors=True)
        group = zarr.create_group(path, zarr_format=3)
        for layer, rows in self.layers.items():
            n_shard_rows = -(-len(rows) // 256) * 256
            group.create_array(
                str(layer), data=rows, chunks=(256, self.width), shards=(n_shard_rows, self.width),
                compressors=None,
            )  # fmt: skip
        for shard in path.rglob("c/0/0"):
            descriptor = os.open(shard, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)


def drop_from_memory(path: Path) -> None:
    """Ask the kernel to forget the pages of all files below `path`."""
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def pread_rows(paths: Sequence[Path], starts: np.ndarray, n_bytes: np.ndarray) -> list[bytes]:
    """Read runs of bytes of every file with eight threads: the limit where nothing is in memory."""
    descriptors = [os.open(path, os.O_RDONLY) for path in paths]
    runs = [
        (d, *run)
        for d in descriptors
        for run in zip(n_bytes.tolist(), starts.tolist(), strict=True)
    ]
    with ThreadPoolExecutor(8) as pool:
        found = list(
            pool.map(lambda some: [os.pread(*run) for run in some], [runs[n::8] for n in range(8)])
        )
    for descriptor in descriptors:
        os.close(descriptor)
    return [piece for pieces in found for piece in pieces]


class Bench:
    """Runs jobs in interleaved rounds and keeps their ratios to the first of each."""

    def __init__(self, n_rounds: int) -> None:
        self.n_rounds = n_rounds
        self.table: list[tuple[str, str, float, float]] = []

    def run(self, title: str, jobs: dict[str, Callable[[], Job]]) -> None:
        """Time the jobs once a round; the first one is the limit. What prepares a job is not timed."""
        seconds: dict[str, list[float]] = {name: [] for name in jobs}
        for _ in range(self.n_rounds):
            for name, prepare in jobs.items():
                job = prepare()
                start = time.perf_counter()
                result = job()
                seconds[name].append(time.perf_counter() - start)
                del result, job
        limit = seconds[next(iter(jobs))]
        for name, taken in seconds.items():
            ratio = statistics.median(low / own for low, own in zip(limit, taken, strict=True))
            self.table.append((title, name, ratio, statistics.median(taken) * 1e3))
        print(".", end="", file=sys.stderr, flush=True)

    def show(self) -> None:
        """Print the table."""
        print(file=sys.stderr)
        print("| job | how | ratio to the limit | ms |\n|---|---|---:|---:|")
        for title, name, ratio, taken_ms in self.table:
            print(f"| {title} | {name} | {ratio:.3g} | {taken_ms:.3g} |")


def warm(make: Callable[[], Job]) -> Callable[[], Job]:
    """Prepare a job once and run it once, so that all it reads is in memory and checked."""
    made: list[Job] = []

    def prepare() -> Job:
        if not made:
            made.append(make())
            made[0]()
        return made[0]

    return prepare


def cold(root: Path, make: Callable[[], Job]) -> Callable[[], Job]:
    """Prepare a job anew each time, after the kernel has forgotten all files: mapped ones it would keep."""

    def prepare() -> Job:
        gc.collect()
        drop_from_memory(root)
        return make()

    return prepare


def opened(feature_set: FeatureSet) -> FeatureSet:
    """Open a feature set anew: nothing is mapped or verified, the index is in memory."""
    again = FeatureSet(feature_set.path, feature_set.spec)
    again.refresh()
    return again


def bench_writing(bench: Bench, data: Data) -> None:
    """Write every layer, durably."""
    ways = {
        "tofile": data.write_raw,
        "store": lambda: data.write_store("again", 1),
        f"store in {data.n_parts} parts": lambda: data.write_store("again", data.n_parts),
        "zarr-python": data.write_zarr,
        "HDF5": data.write_hdf5,
    }

    def prepared(way: Job) -> Callable[[], Job]:
        def prepare() -> Job:
            shutil.rmtree(data.root)
            data.root.mkdir()
            os.sync()  # what was removed is given back to the disk now, not in the next job's time
            return way

        return prepare

    title = f"write {data.level}s, {data.n_bytes / 1e6:.0f} MB"
    bench.run(title, {name: prepared(way) for name, way in ways.items()})
    for way in ways.values():
        way()


def bench_whole_layer(bench: Bench, data: Data, whole: FeatureSet) -> None:
    """Read one layer of all clips."""

    def reading(**options: bool) -> Callable[[], Job]:
        def make() -> Job:
            feature_set = opened(whole)
            return lambda: feature_set.read([18], **options)

        return make

    ways: dict[str, Callable[[], Job]] = {
        "fromfile": lambda: lambda: np.fromfile(data.raw_path(18), np.float16),
        "store, verified": reading(verify=True),
        "store, not verified": reading(verify=False),
        "zarr-python": lambda: partial(data.open_zarr()["18"].__getitem__, slice(None)),
        "HDF5": lambda: partial(data.open_hdf5()["18"].__getitem__, slice(None)),
    }
    bench.run("a whole layer, warm", {name: warm(way) for name, way in ways.items()})
    bench.run("a whole layer, cold", {name: cold(data.root, way) for name, way in ways.items()})


def bench_random_rows(bench: Bench, data: Data, whole: FeatureSet, many: FeatureSet) -> None:
    """Read one layer of some clips, in no order."""
    numbers = np.random.default_rng(0).choice(
        len(data.ids), min(N_ROWS, len(data.ids)), replace=False
    )
    ids = [data.ids[n] for n in numbers]
    starts = numbers * data.width * HALF_BYTES
    n_bytes = np.full(len(numbers), data.width * HALF_BYTES)

    def memmap() -> Job:
        mapped = np.memmap(data.raw_path(18), np.float16, "r").reshape(-1, data.width)
        return lambda: mapped[numbers]

    def held() -> Job:
        rows = whole.read([18], data.ids)[:, 0]
        return lambda: rows[numbers]

    def picking(feature_set: FeatureSet, **options: bool) -> Callable[[], Job]:
        def make() -> Job:
            own = opened(feature_set)
            return lambda: own.read([18], ids, **options)

        return make

    others: dict[str, Callable[[], Job]] = {
        "zarr-python": lambda: partial(data.open_zarr()["18"].oindex.__getitem__, np.sort(numbers)),
        "HDF5": lambda: partial(data.open_hdf5()["18"].__getitem__, np.sort(numbers)),
    }
    ways = {
        "memmap": memmap,
        "store": picking(whole),
        f"store in {data.n_parts} parts": picking(many),
        "held in memory": held,
        **others,
    }
    bench.run(f"{len(ids)} random rows, warm", {name: warm(way) for name, way in ways.items()})
    ways = {
        "8-thread pread": lambda: partial(pread_rows, [data.raw_path(18)], starts, n_bytes),
        "store, not verified": picking(whole, verify=False),
        "store, verified": picking(whole),
        f"store in {data.n_parts} parts, not verified": picking(many, verify=False),
        "memmap": memmap,
        **others,
    }
    bench.run(f"{len(ids)} random rows, cold", {n: cold(data.root, way) for n, way in ways.items()})


def bench_frames(
    bench: Bench, data: Data, whole: FeatureSet, many: FeatureSet, n_clips: int
) -> None:
    """Read all layers of the frames of some clips."""
    numbers = np.sort(np.random.default_rng(n_clips).choice(len(data.ids), n_clips, replace=False))
    ids = [data.ids[n] for n in numbers]
    begins, n_row_bytes = data.ends - data.lengths, data.width * HALF_BYTES
    spans = [slice(begins[n], data.ends[n]) for n in numbers]

    def by_layer(open_layer: Callable[[int], Any]) -> Callable[[], Job]:
        def make() -> Job:
            layers = [open_layer(layer) for layer in LAYERS]
            return lambda: [np.stack([rows[span] for rows in layers], axis=1) for span in spans]

        return make

    def picking(feature_set: FeatureSet, **options: bool) -> Callable[[], Job]:
        def make() -> Job:
            own = opened(feature_set)
            return lambda: own.ragged(LAYERS, ids, **options)

        return make

    mapped = by_layer(
        lambda layer: np.memmap(data.raw_path(layer), np.float16, "r").reshape(-1, data.width)
    )
    others = {
        "zarr-python": by_layer(lambda layer: data.open_zarr()[str(layer)]),
        "HDF5": by_layer(lambda layer: data.open_hdf5()[str(layer)]),
    }
    title = f"{n_clips} clip{'s' if n_clips > 1 else ''} x {len(LAYERS)} layers of frames"
    ways = {
        "memmap": mapped,
        "store": picking(whole),
        f"store in {data.n_parts} parts": picking(many),
        **others,
    }
    bench.run(f"{title}, warm", {name: warm(way) for name, way in ways.items()})
    paths = [data.raw_path(layer) for layer in LAYERS]
    starts, n_bytes = begins[numbers] * n_row_bytes, data.lengths[numbers] * n_row_bytes
    ways = {
        "8-thread pread": lambda: partial(pread_rows, paths, starts, n_bytes),
        "store, not verified": picking(whole, verify=False),
        "store, verified": picking(whole),
        f"store in {data.n_parts} parts, not verified": picking(many, verify=False),
        "memmap": mapped,
        **others,
    }
    bench.run(f"{title}, cold", {name: cold(data.root, way) for name, way in ways.items()})


def main() -> None:
    """Run all jobs and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--utterances", type=int, default=8192, help="clips at utterance level")
    parser.add_argument("--clips", type=int, default=128, help="clips at frame level")
    parser.add_argument("--frames", type=int, default=160, help="frames of a clip, on average")
    parser.add_argument("--width", type=int, default=1024, help="D of every layer")
    parser.add_argument("--parts", type=int, default=8, help="parts of the store that is split")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    bench = Bench(args.rounds)
    one_row = np.ones(args.utterances, dtype=np.int64)
    lengths = np.random.default_rng(2).integers(args.frames // 2, args.frames * 3 // 2, args.clips)
    for level, of_level in (("utterance", one_row), ("frame", lengths)):
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            data = Data(Path(folder) / level, level, of_level, args.width, args.parts)
            bench_writing(bench, data)
            whole, many = data.write_store("whole", 1), data.write_store("many", args.parts)
            if level == "utterance":
                bench_whole_layer(bench, data, whole)
                bench_random_rows(bench, data, whole, many)
            else:
                for n_clips in (min(N_CLIPS_PICKED, args.clips), 1):
                    bench_frames(bench, data, whole, many, n_clips)
    bench.show()


if __name__ == "__main__":
    main()
