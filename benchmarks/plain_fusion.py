"""A plain loop that trains a fusion as the official baseline does, for `fusion_launch.py`.

One fold after the other, in batches of 32 that a DataLoader collates clip by clip from arrays in memory, with
the whole test set scored after each epoch. A lean variant cuts its batches from tensors on the device.
Features are standardised as ours are, in time that is not counted: the official baseline does not do it.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from real_size import WIDTHS
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset

from mer_store.store.store import Store
from pipelines.planted.write import Planted
from pipelines.train import fusion
from pipelines.train.fusion_stack import Variant
from pipelines.train.run_folder import RunFolder
from pipelines.train.search import draw_variants

BATCH, N_FOLDS = 32, 5


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


Batch = tuple[list[Tensor], Tensor, Tensor]
"""[B, D] per modality, present [B, M], label [B]."""


@dataclass(frozen=True)
class Arrays:
    """What the baseline holds in memory."""

    inputs: list[Tensor]
    """float32 [clips, D] per modality."""
    present: Tensor
    """[clips, M]"""
    label: Tensor
    fold: Tensor
    """[clips]: -1 for what is only predicted."""
    device: str
    lean: bool
    """Everything is on the device, and batches are cut from it."""

    def batches(
        self, inputs: list[Tensor], rows: Tensor, *, shuffled: bool = False
    ) -> Iterator[Batch]:
        """Yield the batches of an epoch of the clips at `rows`."""
        if self.lean:
            order = torch.randperm(len(rows)).to(rows.device) if shuffled else slice(None)
            for some in rows[order].split(BATCH):
                yield [x[some] for x in inputs], self.present[some], self.label[some]
            return
        clips = TensorDataset(*inputs, self.present, self.label)
        sampler = SubsetRandomSampler(rows.tolist()) if shuffled else rows.tolist()
        for *x, present, label in DataLoader(clips, BATCH, sampler=sampler):
            yield [one.to(self.device) for one in x], present.to(self.device), label.to(self.device)


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


def arrays_of(
    planted: Planted, inputs: list[Tensor], run: RunFolder, device: str, *, lean: bool
) -> Arrays:
    """Put what was read beside the labels and the folds of our run."""
    known = run.folds()
    fold = torch.tensor([known.get(clip_id, -1) for clip_id in planted.corpus.clip_ids])
    present = torch.stack([x.any(dim=1) for x in inputs], dim=1)
    label = torch.from_numpy(planted.corpus.label)
    place = device if lean else "cpu"
    held = [x.to(place) for x in inputs]
    return Arrays(held, present.to(place), label.to(place), fold.to(place), device, lean)


def standardised(arrays: Arrays, train: Tensor) -> list[Tensor]:
    """Return the inputs with mean 0 and variance 1 over a fold's training clips, as ours are."""
    scaled = []
    for x, there in zip(arrays.inputs, arrays.present.T, strict=True):
        own = x[train][there[train]]
        scaled.append((x - own.mean(dim=0)).div_(own.std(dim=0).clamp_min(1e-5)))
    return scaled


def train_fold(
    arrays: Arrays, number: int, settings: fusion.Settings, variant: Variant
) -> tuple[float, float]:
    """Train one fold; score it and all other clips after each epoch. Return seconds and the last F1."""
    torch.manual_seed(number)
    usable = arrays.present.any(dim=1)
    train = torch.nonzero((arrays.fold >= 0) & (arrays.fold != number) & usable).flatten()
    held = torch.nonzero((arrays.fold == number) & usable).flatten()
    others = torch.nonzero((arrays.fold < 0) & usable).flatten()
    inputs = standardised(arrays, train)
    started_s = time.perf_counter()
    model = Plain(variant.hidden, variant.dropout).to(arrays.device)
    adam = torch.optim.Adam(model.parameters(), variant.lr, weight_decay=settings.weight_decay)
    for _ in range(settings.epochs):
        model.train()
        for x, present, label in arrays.batches(inputs, train, shuffled=True):
            loss = nn.functional.cross_entropy(model(x, present), label)
            adam.zero_grad()
            loss.backward()
            adam.step()
        model.eval()
        with torch.no_grad():
            predicted, _ = (
                torch.cat([model(x, there).cpu() for x, there, _ in arrays.batches(inputs, rows)])
                for rows in (held, others)
            )
    elapsed_s = time.perf_counter() - started_s
    f1 = f1_score(arrays.label[held].cpu(), predicted.argmax(dim=1), average="weighted")
    return elapsed_s, float(f1)


def train_plain(arrays: Arrays, run: RunFolder, n_folds: int) -> tuple[float, float]:
    """Return seconds of all folds and of all draws of `run`, and the mean F1 of the folds trained.

    `n_folds` folds are trained and their time is scaled to all. Where our run searched, this is done for one
    draw of each width, and its time is scaled by how many draws have that width.
    """
    settings = run.settings(fusion.Settings)
    draws = draw_variants(settings.search, settings.seed) or [settings.variant]
    total_s, scores = 0.0, []
    for hidden, n_draws in sorted(Counter(draw.hidden for draw in draws).items()):
        variant = next(draw for draw in draws if draw.hidden == hidden)
        for number in range(n_folds):
            elapsed_s, f1 = train_fold(arrays, number, settings, variant)
            total_s += elapsed_s * n_draws * N_FOLDS / n_folds
            scores.append(f1)
    return total_s, float(np.mean(scores))
