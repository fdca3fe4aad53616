"""One launch of the fusion at real size, against a plain loop that works as the official baseline does.

Ours: `mer-store train fusion` from a store on disk: five folds side by side, the other clips predicted once,
at the end. The baseline: one .npy file a clip and modality read at the start, then the loop of
`plain_fusion.py`; `--lean` spares it the DataLoader. Same model, folds, number of epochs and threads.
Let nothing else run beside it: threads that wait for one another on busy cores take many times as long.

    python benchmarks/fusion_launch.py --scale 1 --epochs 5 [--lean]
    python benchmarks/fusion_launch.py --scale 1 --epochs 5 --search 50 --device cuda
"""

import argparse
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from plain_fusion import N_FOLDS, arrays_of, read_npy, train_plain, write_npy
from real_size import real_size_store
from target import at_least

from mer_store.clips.clip_list import ClipList
from mer_store.store.store import Store
from pipelines.planted.write import Planted
from pipelines.train import fusion
from pipelines.train.run_folder import RunFolder
from pipelines.train.settings import read_settings
from pipelines.train.trainers import Job

TARGET, SEARCH_TARGET = 10, 50


@dataclass(frozen=True)
class Launch:
    """How long a launch took, and how good it was."""

    fixed_s: float
    """Spent once, however many epochs there are: reading, and what is predicted at the end."""
    epochs_s: float
    f1: float
    """On the folds that the baseline trained."""

    @property
    def total_s(self) -> float:
        """From the files on disk to predictions."""
        return self.fixed_s + self.epochs_s


def plain_launch(
    planted: Planted, folder: Path, run: RunFolder, n_folds: int, device: str, *, lean: bool
) -> Launch:
    """Launch as the baseline does."""
    started_s = time.perf_counter()
    inputs = read_npy(planted.corpus.clip_ids, folder)
    fixed_s = time.perf_counter() - started_s
    arrays = arrays_of(planted, inputs, run, device, lean=lean)
    return Launch(fixed_s, *train_plain(arrays, run, n_folds))


def our_launch(
    planted: Planted, runs: Path, n_epochs: int, n_draws: int, n_folds: int, device: str
) -> tuple[Launch, RunFolder]:
    """Train with ours, from the store on disk."""
    assignments = ["audio.layers=18", "text.layers=40"]
    assignments += [f"epochs={n_epochs}", f"search.draws={n_draws}"]
    settings = read_settings(fusion.Settings, None, assignments)
    started_s = time.perf_counter()
    store, clips = Store.open(planted.store), ClipList.read(planted.clips)
    run = fusion.train(Job(store, clips, settings, runs, device))
    total_s, summary = time.perf_counter() - started_s, run.summary
    epochs_s = total_s if n_draws else summary["elapsed_s"]
    f1 = float(np.mean(summary["weighted_f1_by_lane"][:n_folds]))
    return Launch(total_s - epochs_s, epochs_s, f1), run


def show(ours: Launch, theirs: Launch, n_epochs: int, *, searched: bool) -> None:
    """Print what was measured, and apart from it what follows for 100 epochs."""
    for name, launch in (("ours", ours), ("baseline", theirs)):
        print(
            f"{name + ':':<10}{launch.total_s:9.1f} s: {launch.epochs_s:.1f} s in epochs, "
            f"{launch.fixed_s:.1f} s once; weighted F1 {launch.f1:.4f}"
        )
    what = f"fusion, {'a search' if searched else f'{n_epochs} epochs'}: times as fast as a plain trainer"
    why = f"{ours.fixed_s / ours.total_s:.0%} of ours is done once, at any size"
    at_least(what, theirs.total_s / ours.total_s, SEARCH_TARGET if searched else TARGET, why=why)
    if not searched:
        many = [one.fixed_s + 100 * one.epochs_s / n_epochs for one in (theirs, ours)]
        print(f"at 100 epochs, by these costs: {many[0] / many[1]:.1f} (an extrapolation)")


def main() -> None:
    """Measure both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=0.1, help="1 is 120,625 clips")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--folds", type=int, default=1, help="the baseline trains, scaled to 5")
    parser.add_argument("--search", type=int, default=0, help="draws")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--lean", action="store_true", help="no DataLoader in the baseline")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mer-store-") as name:
        folder = Path(name)
        planted = real_size_store(folder / "planted", options.scale)
        write_npy(planted, folder / "npy")
        print(
            f"{len(planted.corpus.clip_ids)} clips, {options.epochs} epochs, {options.device}, "
            f"{torch.get_num_threads()} threads; load of the machine {os.getloadavg()[0]:.1f}"
        )
        ours, run = our_launch(
            planted, folder / "runs", options.epochs, options.search, options.folds, options.device
        )
        theirs = plain_launch(
            planted, folder / "npy", run, options.folds, options.device, lean=options.lean
        )
    print(f"the baseline trained {options.folds} of {N_FOLDS} folds; its time is scaled to all")
    show(ours, theirs, options.epochs, searched=options.search > 0)


if __name__ == "__main__":
    main()
