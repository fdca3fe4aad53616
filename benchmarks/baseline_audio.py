"""`mer-store extract` against the loop of the usual baseline, on the same wav files and threads.

A full-size HuBERT-large with random weights; clips with lengths as in MER2024 (mean 3.13 s, 10 s at most:
longer ones the baseline cuts, which changes their numbers). The loop runs the whole model over one clip at a
time, stacks all 25 hidden states and writes a .npy a clip with layers 16 to 21 pooled. `extract` does all it
always does: plans, reads, decodes, runs the blocks up to 21, writes checksummed parts and commits. Both
have loaded their model before. The rows must agree. In pairs, A B B A, since these machines are noisy:

    python benchmarks/baseline_audio.py --clips 64 --rounds 3
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gpu_corpus import RATE_HZ, read_wav, write_wavs
from gpu_loops import AudioLoop
from gpu_models import write_hubert
from gpu_runs import extract, stored
from target import at_least, at_most

import mer_store
from mer_store.clips.clip_list import ClipList

LAYERS = tuple(range(16, 22))
#: How threads of torch wait for each other. Where a neighbour takes a core, those that spin lose a multiple;
#: and they spin only where there are no more of them than cores, which would favour `extract`.
WAITING = "OMP_WAIT_POLICY"
LEAST_RATIO = 1.1
#: Of a clip's rows in units of their length: float32 in another order of summing.
CLOSE = 1e-5


@dataclass(frozen=True)
class Times:
    """Of one measured stretch: on the wall, and of all cores of this process."""

    wall_s: float
    cpu_s: float


def timed(run: Callable[[], object]) -> Times:
    """Time one run."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    run()
    return Times(time.perf_counter() - wall_s, time.process_time() - cpu_s)


def largest_difference(store: Path, npy: Path, clips: ClipList) -> float:
    """Compare every clip's rows, [L, D] in float32."""
    clip_ids = [clip.clip_id for clip in clips.clips]
    features = mer_store.open(store).features("audio", level="utterance")
    ours = features.read(layers=list(LAYERS), clip_ids=clip_ids)
    theirs = np.stack([np.load(npy / f"{clip_id}.npy") for clip_id in clip_ids])
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    distances = np.linalg.norm(ours - theirs, axis=-1) / np.linalg.norm(theirs, axis=-1)
    return float(distances.max())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", choices=["full", "tiny"], default="full")
    parser.add_argument("--threads", type=int, help="of torch, for both; its own choice by default")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        compare(options.folder or Path(temporary), options)


def compare(folder: Path, options: argparse.Namespace) -> None:
    """Run both in turns and print the ratio of their times."""
    model = write_hubert(folder / "hubert-large", options.size)
    clips = write_wavs(folder / "wavs", options.clips)
    command = ["--modality", "audio", "--layers", "16-21", "--stored-dtype", "float32",
               "--device", "cpu", "--model", str(model)]  # fmt: skip
    store, npy = folder / "store", folder / "npy"
    npy.mkdir(exist_ok=True)
    loop = AudioLoop(model, "cpu", LAYERS)
    runs: dict[str, Callable[[], object]] = {
        "loop": lambda: loop(clips.clips, npy),
        "ours": lambda: extract(clips.path, store, command),
    }
    loop(clips.clips[:1], npy)
    first = ClipList(clips.clips[:1], path=folder / "first.csv")
    first.write(first.path)
    extract(first.path, store, command)  # loads the model
    rounds: list[dict[str, Times]] = []
    for number in range(options.rounds):
        order = list(runs) if number % 2 == 0 else list(runs)[::-1]
        rounds.append({name: timed(runs[name]) for name in order})
        taken = ", ".join(f"{name} {times.wall_s:.1f} s" for name, times in rounds[-1].items())
        print(f"round {number + 1}: {taken}", file=sys.stderr)
    apart = largest_difference(store, npy, clips)
    assert apart <= CLOSE, f"rows differ by {apart:.1e} of their length, expected {CLOSE:g} at most"
    audio_s = sum(len(read_wav(Path(str(clip.path)))) for clip in clips.clips) / RATE_HZ
    print(
        f"{options.clips} clips, {audio_s:.0f} s of audio, {torch.get_num_threads()} threads of torch"
    )
    wall = statistics.median(pair["loop"].wall_s / pair["ours"].wall_s for pair in rounds)
    cpu = statistics.median(pair["loop"].cpu_s / pair["ours"].cpu_s for pair in rounds)
    at_least("extract against the usual loop, layers 16-21", wall, LEAST_RATIO, " times as fast")
    print(f"  the same by CPU time: {cpu:.2f}")
    at_most("its rows against the loop's, apart by", apart, CLOSE, " of their length")
    for name, (n_bytes, n_files) in (("ours", stored(store / "features")), ("loop", stored(npy))):
        print(f"  {name:5} {n_bytes:12,} bytes in {n_files:,} files")


if __name__ == "__main__":
    if WAITING in os.environ:
        main()
    else:  # it is read when torch is imported
        again = {**os.environ, WAITING: "passive"}
        sys.exit(subprocess.run([sys.executable, *sys.argv], env=again, check=False).returncode)
