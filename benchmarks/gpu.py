"""Full-size models from files to committed parts on one GPU, beside the model alone and the usual loop.

Weights are random, clips are made on the spot with lengths as in MER2024, nothing is downloaded. Each line
has its target beside it; the last ones say what the whole of MER2024 would take at the speed measured.

    python benchmarks/gpu.py all --device cuda:0
    python benchmarks/gpu.py text --text-model 13b --blocks 10
    python benchmarks/gpu.py all --size tiny --device cpu      runs anywhere, means nothing
"""

import argparse
import gc
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gpu_corpus import MEAN_S
from gpu_models import N_BLOCKS
from gpu_runs import Alone, busy_share, extract, peak_flops
from gpu_stages import STAGES, Loop, Stage
from target import at_least

from mer_store.clips.clip import Clip
from mer_store.clips.clip_list import ClipList

#: The whole of MER2024: seconds of audio, images at 25 a second, tokens of 115,595 transcripts.
MER2024 = {"audio": 362_329, "crops": 9_050_000, "video": 9_050_000, "text": 115_595 * 20}
LEAST_WHOLE_SHARE, LEAST_UTILISATION = 0.85, 0.40
#: Utilisations that the floors are stated for.
FLOORS = (0.4, 0.6)
HOUR_S = 3600


@dataclass(frozen=True)
class Speeds:
    """Of one stage, in units a second."""

    alone: float
    whole: float
    loop: float | None
    flops_per_unit: float
    difference: float | None
    """Between our rows and the loop's, in units of their length, at most."""
    waiting: float
    """Share of the run in which the model waited for input."""
    busy: float | None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=[*STAGES, "all"])
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", choices=["full", "tiny"], default="full")
    parser.add_argument("--clips", type=int, help="clips of each stage, else by the stage")
    parser.add_argument(
        "--seconds", type=float, default=MEAN_S, help="length of a clip, on average"
    )
    parser.add_argument("--loop-clips", type=int, default=64, help="clips of the usual loop")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--height", type=int, default=360, help="of the videos, in pixels")
    parser.add_argument("--text-model", choices=list(N_BLOCKS), default="7b")
    parser.add_argument("--blocks", type=int, help="blocks of the language model, else all")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    options = parser.parse_args()
    names = list(STAGES) if options.stage == "all" else [options.stage]
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        for build in [build for name in names for build in STAGES[name]]:
            stage = build(folder, options)
            print(f"\n{stage.name}: {len(stage.clips.clips)} clips on {options.device}", flush=True)
            show(stage, measure(stage, folder, options), options)
            gc.collect()


def measure(stage: Stage, folder: Path, options: argparse.Namespace) -> Speeds:
    """Time the usual loop; then the whole and the model alone in turns, of which the medians are given."""
    few = stage.clips.clips[: options.loop_clips]
    loop_s = run_loop(stage.loop, few, folder / "npy") if stage.loop else None
    gc.collect()
    alone = Alone(stage.request, stage.clips.clips, stage.want)
    flops_per_unit = alone.flops_per_unit() * stage.n_sizes
    alone.run()
    command = [*stage.options, "--device", options.device, "--model", str(stage.request.model)]
    first = ClipList(stage.clips.clips[:8], path=folder / "first.csv")
    first.write(first.path)
    extract(first.path, folder / "store", command)  # loads the model, which is not timed
    alone_s, wholes, busy = [], [], None
    for number in range(options.rounds):
        alone_s.append(alone.run())
        with busy_share(options.device) as share:
            wholes.append(extract(stage.clips.path, folder / "store", command))
            busy = share()
        taken = f"alone {alone_s[-1]:.2f} s, whole {wholes[-1].wall_s:.2f} s"
        print(f"  round {number + 1}: {taken}", file=sys.stderr)
    n_units = alone.n_units / stage.n_sizes
    n_few = sum(loaded.size for loaded in alone.loaded[: len(few)]) / stage.n_sizes
    return Speeds(
        alone=n_units / statistics.median(alone_s),
        whole=n_units / statistics.median(whole.wall_s for whole in wholes),
        loop=n_few / loop_s if loop_s else None,
        flops_per_unit=flops_per_unit,
        difference=difference(alone, folder / "npy") if loop_s else None,
        waiting=float(wholes[-1].facts.get("waiting_s", 0)) / wholes[-1].wall_s,
        busy=busy,
    )


def run_loop(load: Callable[[], Loop], clips: Sequence[Clip], out: Path) -> float:
    """Return the seconds that the usual loop takes; its weights are gone when this returns."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    loop = load()
    loop(clips[:2], out)  # the first is slower: kernels are chosen
    started_s = time.perf_counter()
    loop(clips, out)
    return time.perf_counter() - started_s


def difference(alone: Alone, npy: Path, n_clips: int = 8) -> float:
    """Compare the first clips' rows with what the loop wrote: layers one by one, or their sum."""
    largest = 0.0
    for loaded in alone.loaded[:n_clips]:
        (states,) = alone.extractor([loaded], alone.want)
        rows = np.stack([states.utterance[layer] for layer in alone.want.utterance])
        theirs = np.load(npy / f"{loaded.clip_id}.npy")
        ours = rows if theirs.ndim == rows.ndim else rows.sum(axis=0)
        largest = max(largest, float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)))
    return largest


def show(stage: Stage, speeds: Speeds, options: argparse.Namespace) -> None:
    """Print a stage's lines."""
    peak, judged = peak_flops(options.device), options.size == "full" and options.device != "cpu"
    flops_s = speeds.alone * speeds.flops_per_unit
    line("the model alone", f"{speeds.alone:.4g} {stage.unit}/s")
    line("from files to committed parts", f"{speeds.whole:.4g} {stage.unit}/s")
    if stage.unit == "audio s":
        line("", f"{speeds.whole / HOUR_S:.4g} audio hours/s")
    share = speeds.whole / speeds.alone
    target(stage, judged, "share of the model alone", share, LEAST_WHOLE_SHARE)
    line(f"FLOPs of a unit ({stage.unit})", f"{speeds.flops_per_unit / 1e9:.4g} GFLOP")
    line("FLOP/s", f"{flops_s / 1e12:.4g} T")
    if peak is not None:
        target(stage, judged, "model FLOPs utilisation", flops_s / peak, LEAST_UTILISATION)
    line("the model waits for input", f"{speeds.waiting:.1%}")
    line("GPU idle", "-" if speeds.busy is None else f"{1 - speeds.busy:.1%}")
    if speeds.loop is not None:
        line("the usual loop", f"{speeds.loop:.4g} {stage.unit}/s")
        target(stage, judged, "times as fast as it", speeds.whole / speeds.loop, stage.least_ratio)
        line("largest difference from its rows", f"{speeds.difference:.1e}")
    in_all(stage, speeds, peak)


def in_all(stage: Stage, speeds: Speeds, peak: float | None) -> None:
    """Print what the whole of MER2024 would take, beside the floors of this device."""
    kind = {"audio s": "audio", "images": "crops", "tokens": "text"}[stage.unit]
    n_units = MER2024[kind] * stage.scale
    line(f"all of MER2024, {MER2024[kind]:,} {stage.unit}", f"{n_units / speeds.whole:.4g} s")
    if peak is not None:
        floors = [n_units * speeds.flops_per_unit / (share * peak) for share in FLOORS]
        line(
            f"  floors at {FLOORS[0]:.0%} and {FLOORS[1]:.0%}",
            f"{floors[0]:.4g} and {floors[1]:.4g} s",
        )


def target(stage: Stage, judged: bool, name: str, value: float, least: float) -> None:
    """Print a figure with its target, and whether it is met where that means something."""
    if judged:
        at_least(f"{stage.name}: {name}", value, least)
    else:
        line(name, f"{value:.3g}", f">= {least:g}")


def line(name: str, value: str, remark: str = "") -> None:
    """Print a figure."""
    print(f"  {name:40} {value:>28}  {remark}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
