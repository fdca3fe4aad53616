"""What a loader leaves behind: memory and file descriptors of all its processes, over many batches."""

import gc
import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path

from target import at_most
from torch.utils.data import DataLoader

from mer_store.torch_dataset import FrameBatch

#: Of all batches, the share after which growth is a leak: buffers have their size and all chunks are mapped.
SETTLED = 0.25
#: Less than a hundredth of what the batches themselves hold.
MAX_GROWTH_MB = 4.0


@dataclass(frozen=True)
class Held:
    """What the processes of a loader hold."""

    n_descriptors: int
    memory_mb: float
    """Not backed by files, all processes together."""

    @classmethod
    def now(cls) -> "Held":
        pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
        folders = [Path(f"/proc/{pid}") for pid in pids]
        return cls(sum(map(_n_descriptors, folders)), sum(map(_memory_mb, folders)))


def _n_descriptors(process: Path) -> int:
    return len(list((process / "fd").iterdir()))


def _memory_mb(process: Path) -> float:
    """Return anonymous and shared memory: pages of mapped files are the system's to drop."""
    lines = (process / "status").read_text().splitlines()
    sizes = {name: rest for name, _, rest in (line.partition(":") for line in lines)}
    return sum(int(sizes[name].split()[0]) for name in ("RssAnon", "RssShmem")) / 1024


def leaks(how: str, loader: DataLoader[FrameBatch], n_batches: int) -> None:
    """Print how much more is held after `n_batches` than after a quarter of them, between epochs."""
    done, settled = 0, None
    while done < n_batches or settled is None:
        done += sum(1 for _ in loader)
        gc.collect()
        if settled is None and done >= SETTLED * n_batches:
            settled = Held.now()
    last = Held.now()
    what = f"{how}: {done:,} batches, "
    at_most(
        f"{what}more file descriptors than after {SETTLED:.0%}",
        last.n_descriptors - settled.n_descriptors,
        0,
    )
    growth_mb = last.memory_mb - settled.memory_mb
    at_most(f"{what}more memory than after {SETTLED:.0%}", growth_mb, MAX_GROWTH_MB, " MB")
