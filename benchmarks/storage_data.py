"""Features of clips in memory, written as plain files and as a store: what the benchmarks of storage read."""

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_store.spec import Spec
from mer_store.store.feature_set import FeatureSet
from mer_store.store.store import Store
from mer_store.store.writer import ClipRows, PartWriter

Array = NDArray[Any]

LAYERS = tuple(range(16, 22))
HALF_BYTES = 2
N_THREADS = 8


def spec_of(level: str) -> Spec:
    pooling = "mean" if level == "utterance" else "none"
    return Spec("audio", level, "bench", "0", "default", {}, pooling, "float32", "float16", False)


def rows_like_embeddings(n_rows: int, width: int, seed: int) -> Array:
    """Return float16 rows [n, D] with the spread of a transformer's states."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n_rows, width), dtype=np.float32) * 0.3).astype(np.float16)


class Data:
    """Clips of one level in memory, and the plain files and stores written from them.

    Parameters
    ----------
    root
        Folder of all that is written.
    level
        utterance or frame.
    lengths
        [clips]: rows of each.
    width
        D of every layer.
    layers
        Of every clip.
    """

    def __init__(
        self,
        root: Path,
        level: str,
        lengths: NDArray[np.int64],
        width: int,
        layers: Sequence[int] = LAYERS,
    ) -> None:
        root.mkdir(exist_ok=True, parents=True)
        self.root, self.level, self.lengths, self.width = root, level, lengths, width
        self.ids = [f"samplenew3_{n:08d}" for n in range(len(lengths))]
        self.ends = np.cumsum(lengths)
        self.starts = self.ends - lengths
        n_rows = int(self.ends[-1])
        self.layers = {layer: rows_like_embeddings(n_rows, width, layer) for layer in layers}
        self.row_bytes = width * HALF_BYTES
        self.n_bytes = n_rows * self.row_bytes * len(layers)
        self.clips = [self._clip(number) for number in range(len(self.ids))]

    def _clip(self, number: int) -> ClipRows:
        span = self.span(number)
        layers = {layer: rows[span] for layer, rows in self.layers.items()}
        digest = f"sha256:{number:064x}"
        return ClipRows(self.ids[number], "ok", digest=digest, n_bytes=1, mtime_ns=1, layers=layers)

    def span(self, number: int) -> slice:
        """Return the rows of a clip in every layer."""
        return slice(int(self.starts[number]), int(self.ends[number]))

    def named(self, numbers: Array) -> list[str]:
        """Return the ids of clips given by number."""
        return [self.ids[n] for n in numbers.tolist()]

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

    def mapped(self, layer: int) -> Array:
        """Return one layer [rows, D], its plain file mapped into memory."""
        return np.memmap(self.raw_path(layer), np.float16, "r").reshape(-1, self.width)

    def write_store(self, name: str, n_parts: int) -> FeatureSet:
        """Write a store of so many parts."""
        path = self.root / name
        shutil.rmtree(path, ignore_errors=True)
        feature_set = Store.create(path).ensure(spec_of(self.level))
        for clips in np.array_split(np.arange(len(self.clips)), n_parts):
            with PartWriter(feature_set, list(self.layers)) as writer:
                writer.add_all([self.clips[number] for number in clips.tolist()])
                writer.commit()
        return feature_set


def opened(feature_set: FeatureSet) -> FeatureSet:
    """Open a feature set anew: nothing is mapped or verified, the index is in memory."""
    again = FeatureSet(feature_set.path, feature_set.spec)
    again.refresh()
    return again


def sync_files(files: Sequence[Path]) -> None:
    """Wait until files are on the disk."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def drop_from_memory(root: Path) -> None:
    """Ask the kernel to forget the pages of all files below a folder."""
    for file in root.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def pread_rows(paths: Sequence[Path], starts: Array, n_bytes: Array) -> list[bytes]:
    """Read runs of bytes of every file with eight threads: the limit where nothing is in memory."""
    descriptors = [os.open(path, os.O_RDONLY) for path in paths]
    runs = [
        (descriptor, *run)
        for descriptor in descriptors
        for run in zip(n_bytes.tolist(), starts.tolist(), strict=True)
    ]
    with ThreadPoolExecutor(N_THREADS) as pool:
        jobs = [partial(_pread, runs[n::N_THREADS]) for n in range(N_THREADS)]
        found = list(pool.map(lambda job: job(), jobs))
    for descriptor in descriptors:
        os.close(descriptor)
    return [piece for pieces in found for piece in pieces]


def _pread(runs: Sequence[tuple[int, int, int]]) -> list[bytes]:
    return [os.pread(*run) for run in runs]
