"""A torch DataLoader over frame-level features, against a plain read of the same rows in the same order.

The limit copies every clip's rows out of memory-mapped plain files, one file a layer, batch by batch. The
loader gives the same rows, padded to the longest clip of the batch, through `StoreDataset`; its checksums are
on, and each process checks every chunk the first time it touches it. Before any epoch is timed one is read of
which every batch is compared with the plain rows. 1.0 is the speed of the plain read, larger is faster.

    python benchmarks/dataloader.py                                   about two minutes, 2 GB
    python benchmarks/dataloader.py --clips 1024 --rounds 9
"""

import argparse
import gc
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from loader_leaks import leaks
from storage_data import Array, Data
from target import at_least, at_most
from torch.utils.data import DataLoader

from mer_store.torch_dataset import FrameBatch, StoreDataset, pad_frames

BATCH = 16
#: Epochs before those that are timed: of four workers each one has then touched most chunks and checked them.
N_SETTLING = 3
#: How a loader is started -> its workers and how they begin.
LOADERS = {
    "no worker": (0, None),
    "2 workers, fork": (2, "fork"),
    "2 workers, spawn": (2, "spawn"),
    "4 workers, fork": (4, "fork"),
    "4 workers, spawn": (4, "spawn"),
}


class Order:
    """A sampler that is told the order of each epoch."""

    def __init__(self, n_clips: int) -> None:
        self.numbers = list(range(n_clips))

    def shuffle(self, seed: int) -> None:
        self.numbers = np.random.default_rng(seed).permutation(len(self.numbers)).tolist()

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


def loader_of(
    store: Path, data: Data, order: Order, n_workers: int, start: str | None
) -> DataLoader[FrameBatch]:
    """Return a loader on a data set that was opened, read and checked before the workers begin."""
    dataset = StoreDataset(
        store, "audio", level="frame", layers=list(data.layers), clip_ids=data.ids
    )
    _ = dataset[0]
    return DataLoader(
        dataset, batch_size=BATCH, sampler=order, collate_fn=pad_frames, num_workers=n_workers,
        multiprocessing_context=start, persistent_workers=n_workers > 0,
    )  # fmt: skip


def batches(order: Order) -> Iterator[list[int]]:
    for first in range(0, len(order), BATCH):
        yield order.numbers[first : first + BATCH]


def padded(data: Data, order: Order) -> float:
    """Return how many times larger an epoch's batches are than the rows in them."""
    lengths = [[int(data.lengths[n]) for n in numbers] for numbers in batches(order)]
    return sum(len(batch) * max(batch) for batch in lengths) / sum(map(sum, lengths))


def raw_epoch(data: Data, order: Order) -> float:
    """Read all clips from the plain files; return seconds."""
    started_s = time.perf_counter()
    layers = [data.mapped(layer) for layer in data.layers]
    for numbers in batches(order):
        rows = [np.stack([layer[data.span(n)] for layer in layers], axis=1) for n in numbers]
    del rows
    return time.perf_counter() - started_s


def loader_epoch(loader: DataLoader[FrameBatch]) -> float:
    """Read all clips through the loader; return seconds."""
    started_s = time.perf_counter()
    n_frames = torch.zeros((), dtype=torch.int64)
    for batch in loader:
        n_frames += batch.mask.sum()
    assert n_frames > 0
    return time.perf_counter() - started_s


def n_wrong(data: Data, order: Order, loader: DataLoader[FrameBatch]) -> int:
    """Count clips of an epoch whose rows or padding are not those of the plain rows."""
    wrong = 0
    for numbers, batch in zip(batches(order), loader, strict=True):
        for place, number in enumerate(numbers):
            there = batch.mask[place]
            rows = np.stack([rows[data.span(number)] for rows in data.layers.values()], axis=1)
            good = (
                batch.clip_ids[place] == data.ids[number]
                and same(rows, batch.features[place][there].numpy())
                and not batch.features[place][~there].any()
            )
            wrong += not good
    return wrong


def same(rows: Array, others: Array) -> bool:
    return np.array_equal(rows.view(np.uint16), others.view(np.uint16))


def compare(data: Data, store: Path, n_rounds: int) -> None:
    """Print every loader's speed as a ratio to the plain read of the same round."""
    order = Order(len(data.ids))
    loaders = {how: loader_of(store, data, order, *start) for how, start in LOADERS.items()}
    order.shuffle(0)
    wrong = sum(n_wrong(data, order, loader) for loader in loaders.values())
    at_most("clips with wrong rows in any loader, the store read before they began", wrong, 0)
    first = []
    for _ in range(n_rounds):
        limit_s = raw_epoch(data, order)
        first.append(limit_s / loader_epoch(loader_of(store, data, order, 0, None)))
    why = f"batches are padded to {padded(data, order):.2f} times their rows, which the plain read is not"
    at_least(
        "no worker, first epoch, every checksum verified", statistics.median(first), 0.5, why=why
    )
    for seed in range(N_SETTLING):
        order.shuffle(1000 + seed)
        for loader in loaders.values():
            loader_epoch(loader)
    ratios: dict[str, list[float]] = {how: [] for how in loaders}
    for seed in range(1, n_rounds + 1):
        order.shuffle(seed)
        for how, loader in loaders.items():
            limit_s = raw_epoch(data, order)
            ratios[how].append(limit_s / loader_epoch(loader))
            gc.collect()
    for how, found in ratios.items():
        at_least(f"{how}: speed / plain read", statistics.median(found), 0.8, why=why)


def main() -> None:
    """Measure the speed at full width, then look for leaks with many small batches."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=512)
    parser.add_argument("--frames", type=int, default=160, help="frames of a clip, on average")
    parser.add_argument("--width", type=int, default=1024, help="D of every layer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", type=int, default=2)
    parser.add_argument("--batches", type=int, default=1000, help="to look for leaks in")
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
    rng = np.random.default_rng(2)
    lengths = rng.integers(args.frames // 2, args.frames * 3 // 2, args.clips)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        data = Data(Path(folder) / "wide", "frame", lengths, args.width)
        data.write_raw()
        data.write_store("store", args.parts)
        print(f"{len(data.ids)} clips, {data.n_bytes / 1e6:.0f} MB, batches of {BATCH}")
        compare(data, data.root / "store", args.rounds)
        small = Data(Path(folder) / "small", "frame", lengths // 4 + 1, 64, (17, 18))
        small.write_store("store", args.parts)
        order = Order(len(small.ids))
        for how in ("no worker", "2 workers, fork", "2 workers, spawn"):
            leaks(how, loader_of(small.root / "store", small, order, *LOADERS[how]), args.batches)


if __name__ == "__main__":
    main()
