"""One launch of the fusion at real size, against a plain loop that works as the official baseline does.

Ours: `mer-store train fusion` from a store on disk: five folds side by side, the other clips predicted once,
at the end. The baseline: one .npy file a clip and modality read at the start, one fold after the other in
batches of 32, the whole test set scored after each epoch. Same model, folds, number of epochs and threads.
Let nothing else run beside it: threads that wait for one another on busy cores take many times as long.

    python benchmarks/fusion_launch.py --scale 1 --epochs 5
    python benchmarks/fusion_launch.py --scale 1 --epochs 5 --search 50 --device cuda
"""

import argparse
import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from real_size import WIDTHS, real_size_store
from sklearn.metrics import f1_score
from torch import Tensor, nn

from mer_store.clips.clip_list import ClipList
from mer_store.store.store import Store
from pipelines.planted.write import Planted
from pipelines.train import fusion
from pipelines.train.fusion_stack import Variant
from pipelines.train.run_folder import RunFolder
from pipelines.train.search import draw_variants
from pipelines.train.settings import read_settings
from pipelines.train.trainers import Job

BATCH, N_FOLDS = 32, 5
TARGET = 10


class Plain(nn.Module):
    """The same model as ours, for one fold."""

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout),
                nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout),
            )
            for width in WIDTHS.values()
        )  # fmt: skip
        self.score = nn.Linear(hidden, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(len(WIDTHS)))
        self.classes = nn.Linear(hidden, 6)

    def forward(self, inputs: list[Tensor], present: Tensor) -> Tensor:
        """[B, D] per modality and present [B, M] -> logits [B, C]."""
        h = torch.stack([encode(x) for encode, x in zip(self.encoders, inputs, strict=True)], dim=1)
        score = (self.score(h)[..., 0] + self.bias).masked_fill(~present, -torch.inf)
        return self.classes((torch.softmax(score, dim=1)[..., None] * h).sum(dim=1))


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


@dataclass(frozen=True)
class Arrays:
    """What the baseline holds in memory, on its device."""

    inputs: list[Tensor]
    """float32 [clips, D] per modality."""
    present: Tensor
    """[clips, M]"""
    label: Tensor
    fold: Tensor
    """[clips]: -1 for what is only predicted."""


def write_npy(planted: Planted, folder: Path) -> None:
    """Write one .npy file a clip and modality, as the baseline's extractors do; absent ones are zeros."""
    store, ids = Store.open(planted.store), list(planted.corpus.clip_ids)
    for modality, width in WIDTHS.items():
        features = store.features(modality, level="utterance")
        place = folder / modality
        place.mkdir(parents=True)
        for start in range(0, len(ids), 4096):
            some = ids[start : start + 4096]
            located = features.locate(features.layers, some)
            values = located.read()[:, 0]
            for clip_id, row in zip(some, located.row.tolist(), strict=True):
                vector = values[row] if row >= 0 else np.zeros(width, np.float16)
                np.save(place / f"{clip_id}.npy", vector)


def read_npy(clip_ids: Sequence[str], folder: Path) -> list[Tensor]:
    """Read them all, clip by clip: float32 [clips, D] per modality."""
    inputs = []
    for modality in WIDTHS:
        vectors = [np.load(folder / modality / f"{clip_id}.npy") for clip_id in clip_ids]
        inputs.append(torch.from_numpy(np.stack(vectors).astype(np.float32)))
    return inputs


def arrays_of(planted: Planted, inputs: list[Tensor], run: RunFolder, device: str) -> Arrays:
    """Put what was read beside the labels and the folds of our run."""
    known = run.folds()
    fold = torch.tensor([known.get(clip_id, -1) for clip_id in planted.corpus.clip_ids])
    present = torch.stack([x.any(dim=1) for x in inputs], dim=1)
    label = torch.from_numpy(planted.corpus.label)
    return Arrays(
        [x.to(device) for x in inputs], present.to(device), label.to(device), fold.to(device)
    )


def standardised(arrays: Arrays, train: Tensor) -> list[Tensor]:
    """Return the inputs with mean 0 and variance 1 over a fold's training clips, as ours are."""
    scaled = []
    for x, there in zip(arrays.inputs, arrays.present.T, strict=True):
        own = x[train][there[train]]
        scaled.append((x - own.mean(dim=0)).div_(own.std(dim=0).clamp_min(1e-5)))
    return scaled


def train_fold(arrays: Arrays, number: int, settings: fusion.Settings, variant: Variant) -> float:
    """Train one fold; score it and all other clips after each epoch. Return its last weighted F1."""
    torch.manual_seed(number)
    usable = arrays.present.any(dim=1)
    train = torch.nonzero((arrays.fold >= 0) & (arrays.fold != number) & usable).flatten()
    held = torch.nonzero((arrays.fold == number) & usable).flatten()
    others = torch.nonzero((arrays.fold < 0) & usable).flatten()
    inputs, present, label = standardised(arrays, train), arrays.present, arrays.label
    model = Plain(variant.hidden, variant.dropout).to(label.device)
    adam = torch.optim.Adam(model.parameters(), variant.lr, weight_decay=settings.weight_decay)

    def logits_of(rows: Tensor) -> Tensor:
        logits: Tensor = model([x[rows] for x in inputs], present[rows])
        return logits

    for _ in range(settings.epochs):
        model.train()
        for rows in train[torch.randperm(len(train)).to(train.device)].split(BATCH):
            loss = nn.functional.cross_entropy(logits_of(rows), label[rows])
            adam.zero_grad()
            loss.backward()
            adam.step()
        model.eval()
        with torch.no_grad():
            predicted = torch.cat([logits_of(rows) for rows in held.split(BATCH)]).argmax(dim=1)
            torch.cat([logits_of(rows) for rows in others.split(BATCH)]).cpu()
    return float(f1_score(label[held].cpu(), predicted.cpu(), average="weighted"))


def train_plain(arrays: Arrays, run: RunFolder, n_folds: int) -> tuple[float, float]:
    """Return seconds of all folds and of all draws of `run`, and the mean F1 of the folds trained.

    `n_folds` folds are trained and their time is scaled to all. Where our run searched, one fold of each
    width among the draws is trained instead, and its time scaled by how many draws have that width.
    """
    settings = run.settings(fusion.Settings)
    draws = draw_variants(settings.search, settings.seed) or [settings.variant]
    seconds, scores = 0.0, []
    for hidden, n_draws in sorted(Counter(draw.hidden for draw in draws).items()):
        variant = next(draw for draw in draws if draw.hidden == hidden)
        started_s = time.perf_counter()
        scores += [train_fold(arrays, number, settings, variant) for number in range(n_folds)]
        seconds += (time.perf_counter() - started_s) * n_draws * N_FOLDS / n_folds
    return seconds, float(np.mean(scores))


def plain_launch(
    planted: Planted, folder: Path, run: RunFolder, n_folds: int, device: str
) -> Launch:
    """Launch as the baseline does."""
    started_s = time.perf_counter()
    inputs = read_npy(planted.corpus.clip_ids, folder)
    fixed_s = time.perf_counter() - started_s
    return Launch(fixed_s, *train_plain(arrays_of(planted, inputs, run, device), run, n_folds))


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
    print(f"ratio {theirs.total_s / ours.total_s:.1f} (target >= {50 if searched else TARGET})")
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
        theirs = plain_launch(planted, folder / "npy", run, options.folds, options.device)
    print(f"the baseline trained {options.folds} of {N_FOLDS} folds; its time is scaled to all")
    show(ours, theirs, options.epochs, searched=options.search > 0)


if __name__ == "__main__":
    main()
