"""One launch of the fusion at real size, against a plain loop that works as the official baseline does.

Ours: `mer-store train fusion` from a store on disk: five folds side by side, the other clips predicted once,
at the end. The baseline: one .npy file a clip and modality read at the start, one fold after the other in
batches of 32, the whole test set scored after each epoch. Same model, folds, number of epochs and threads.

    python benchmarks/fusion_launch.py --scale 1 --epochs 5
    python benchmarks/fusion_launch.py --scale 1 --epochs 5 --search 50 --device cuda
"""

import argparse
import tempfile
import time
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
from pipelines.train.run_folder import RunFolder
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


@dataclass
class Launch:
    """How long a launch took, and how good it was."""

    reading_s: float
    training_s: float
    f1: float

    @property
    def total_s(self) -> float:
        """From the files on disk to predictions."""
        return self.reading_s + self.training_s


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


def read_npy(planted: Planted, folder: Path) -> tuple[list[Tensor], Tensor]:
    """Read them all, clip by clip: float32 [clips, D] per modality, and what is there."""
    inputs = []
    for modality in WIDTHS:
        vectors = [np.load(folder / modality / f"{i}.npy") for i in planted.corpus.clip_ids]
        inputs.append(torch.from_numpy(np.stack(vectors).astype(np.float32)))
    return inputs, torch.stack([x.abs().sum(dim=1) > 0 for x in inputs], dim=1)


def plain_launch(
    planted: Planted, folder: Path, run: RunFolder, n_epochs: int, n_folds: int, device: str
) -> Launch:
    """Train `n_folds` of the folds as the baseline does; the time is scaled to all of them."""
    started_s = time.perf_counter()
    inputs, present = read_npy(planted, folder)
    reading_s = time.perf_counter() - started_s
    settings = run.settings(fusion.Settings)
    known, ids = run.folds(), planted.corpus.clip_ids
    fold = torch.tensor([known.get(clip_id, -1) for clip_id in ids])
    label = torch.from_numpy(planted.corpus.label)
    usable = present.any(dim=1)
    others = torch.nonzero((fold < 0) & usable).flatten()
    inputs, present, label = [x.to(device) for x in inputs], present.to(device), label.to(device)
    scores = []
    started_s = time.perf_counter()
    for number in range(n_folds):
        torch.manual_seed(number)
        train = torch.nonzero((fold >= 0) & (fold != number) & usable).flatten()
        held = torch.nonzero((fold == number) & usable).flatten()
        moments = [(x[train].mean(dim=0), x[train].std(dim=0) + 1e-5) for x in inputs]
        model = Plain(settings.hidden, settings.dropout).to(device)
        adam = torch.optim.Adam(model.parameters(), settings.lr, weight_decay=settings.weight_decay)

        def batch_of(rows: Tensor, moments: list[tuple[Tensor, Tensor]] = moments) -> tuple:
            return [(x[rows] - m) / s for x, (m, s) in zip(inputs, moments, strict=True)], present[
                rows
            ]

        for _ in range(n_epochs):
            model.train()
            for rows in train[torch.randperm(len(train))].split(BATCH):
                loss = nn.functional.cross_entropy(model(*batch_of(rows)), label[rows])
                adam.zero_grad()
                loss.backward()
                adam.step()
            model.eval()
            with torch.no_grad():
                held_logits = torch.cat([model(*batch_of(rows)) for rows in held.split(BATCH)])
                torch.cat([model(*batch_of(rows)) for rows in others.split(BATCH)])
        predicted = held_logits.argmax(dim=1).cpu()
        scores.append(f1_score(label[held].cpu(), predicted, average="weighted"))
    training_s = (time.perf_counter() - started_s) * N_FOLDS / n_folds
    return Launch(reading_s, training_s, float(np.mean(scores)))


def our_launch(
    planted: Planted, runs: Path, n_epochs: int, n_draws: int, device: str
) -> tuple[Launch, RunFolder]:
    """Train with ours, from the store on disk."""
    assignments = [
        f"epochs={n_epochs}",
        "audio.layers=18",
        "text.layers=40",
        f"search.draws={n_draws}",
    ]
    settings = read_settings(fusion.Settings, None, assignments)
    started_s = time.perf_counter()
    store, clips = Store.open(planted.store), ClipList.read(planted.clips)
    run = fusion.train(Job(store, clips, settings, runs, device))
    elapsed_s = time.perf_counter() - started_s
    training_s = run.summary["elapsed_s"] if not n_draws else elapsed_s
    return Launch(elapsed_s - training_s, training_s, run.summary["weighted_f1_mean"]), run


def main() -> None:
    """Measure both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=0.1, help="1 is 120,625 clips")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument(
        "--folds", type=int, default=1, help="folds the baseline trains, scaled to 5"
    )
    parser.add_argument(
        "--search", type=int, default=0, help="draws; the baseline is scaled to them"
    )
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mer-store-") as name:
        folder = Path(name)
        planted = real_size_store(folder / "planted", options.scale)
        n_clips = len(planted.corpus.clip_ids)
        print(
            f"{n_clips} clips, {options.epochs} epochs, {torch.get_num_threads()} threads, {options.device}"
        )
        ours, run = our_launch(
            planted, folder / "runs", options.epochs, options.search, options.device
        )
        write_npy(planted, folder / "npy")
        theirs = plain_launch(
            planted, folder / "npy", run, options.epochs, options.folds, options.device
        )
    n_times = max(options.search, 1)
    total_s = theirs.reading_s + theirs.training_s * n_times
    print(
        f"ours:     {ours.total_s:8.1f} s ({ours.training_s:.1f} s in epochs), weighted F1 {ours.f1:.4f}"
    )
    print(
        f"baseline: {total_s:8.1f} s ({theirs.reading_s:.1f} s reading, {theirs.training_s:.1f} s a model "
        f"x {n_times}), weighted F1 {theirs.f1:.4f} on {options.folds} folds"
    )
    print(f"ratio {total_s / ours.total_s:.1f} (target >= {50 if options.search else TARGET})")
    if not options.search:
        per_epoch = (theirs.training_s / options.epochs, ours.training_s / options.epochs)
        fixed = (theirs.reading_s, ours.total_s - ours.training_s)
        many = [f + 100 * e for f, e in zip(fixed, per_epoch, strict=True)]
        print(f"at 100 epochs, by these costs: {many[0] / many[1]:.1f} (an extrapolation)")


if __name__ == "__main__":
    main()
