"""What is timed: `mer-store extract` from files to committed parts, and the model alone from memory."""

import io
import json
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from extractors.batching import batches
from extractors.contract import Extractor, ExtractorRequest, Loaded, Source, States, Want
from extractors.table import build_extractor
from mer_store.cli.main import cli
from mer_store.clips.clip import Clip

#: Dense half-precision FLOP/s, by what torch calls the device.
PEAKS = {
    "H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12,
    "RTX 4090": 165e12, "RTX 3090": 71e12, "V100": 125e12, "T4": 65e12,
}  # fmt: skip


def peak_flops(device: str) -> float | None:
    """Return the device's dense half-precision peak; None on a CPU or where it is not known."""
    name = "" if device == "cpu" else torch.cuda.get_device_name(device)
    return next((peak for words, peak in PEAKS.items() if words in name), None)


@dataclass(frozen=True)
class Whole:
    """One `mer-store extract`, in this process with a model that is loaded already."""

    wall_s: float
    n_bytes: int
    n_files: int
    facts: dict[str, Any]
    """What ``--json`` says."""


def extract(clips: Path, store: Path, options: Sequence[str]) -> Whole:
    """Run the command into a fresh store: planning, reading, computing, writing, commit."""
    shutil.rmtree(store, ignore_errors=True)
    command = ["extract", "--store", store, "--clips", clips, "--json", "--progress", "none"]
    out, log = io.StringIO(), io.StringIO()
    started_s = time.perf_counter()
    with redirect_stdout(out), redirect_stderr(log):
        code = cli.main([*map(str, command), *options], standalone_mode=False)
    wall_s = time.perf_counter() - started_s
    assert not code, log.getvalue()
    n_bytes, n_files = stored(store / "features")
    return Whole(wall_s, n_bytes, n_files, json.loads(out.getvalue()))


def stored(folder: Path) -> tuple[int, int]:
    """Count bytes and files under a folder."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return sum(sizes), len(sizes)


class Alone:
    """The model on clips that are decoded and in memory, in the batches that `extract` would make."""

    def __init__(self, request: ExtractorRequest, clips: Sequence[Clip], want: Want) -> None:
        self.extractor: Extractor = build_extractor(request)
        self.want = want
        sources = [Source(clip.clip_id, clip.path, clip.text) for clip in clips]
        with ThreadPoolExecutor(8) as pool:
            self.loaded = list(pool.map(self._load, sources))

    def _load(self, source: Source) -> Loaded:
        return self.extractor.load(self.extractor.open(source))

    @property
    def n_units(self) -> int:
        """Samples, images or tokens, padding not counted."""
        return sum(loaded.size for loaded in self.loaded)

    def run(self) -> float:
        """Return the seconds that all clips take."""
        started_s = time.perf_counter()
        for batch in batches(self.loaded, self.extractor.batch_limit, self.extractor.equal_sizes):
            for states in self.extractor(batch, self.want):
                assert isinstance(states, States), states
        return time.perf_counter() - started_s

    def flops_per_unit(self) -> float:
        """Count the products of one clip of middling size, attention as if written out.

        Those that resize crops are among them: 9 MFLOP an image of 112 px, under 0.01 % of CLIP-L.
        """
        self.extractor(self.loaded[:1], self.want)  # loads the weights
        middling = sorted(self.loaded, key=lambda loaded: loaded.size)[len(self.loaded) // 2]
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            self.extractor([middling], self.want)
        return counter.get_total_flops() / middling.size


@contextmanager
def busy_share(device: str) -> Iterator[Callable[[], float | None]]:
    """Watch a GPU through nvidia-smi; calling what is given returns the share of time it was busy."""
    program = shutil.which("nvidia-smi")
    if device == "cpu" or program is None:
        yield lambda: None
        return
    number = str(torch.device(device).index or 0)
    query = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "100"]
    with subprocess.Popen(
        [program, "-i", number, *query], stdout=subprocess.PIPE, text=True
    ) as watch:
        lines: list[str] = []

        def share() -> float | None:
            watch.terminate()
            lines.extend((watch.stdout or io.StringIO()).read().split())
            percents = [float(line) for line in lines if line.replace(".", "").isdigit()]
            return statistics.mean(percents) / 100 if percents else None

        try:
            yield share
        finally:
            watch.terminate()
