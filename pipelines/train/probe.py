"""The probe trainer: how well one modality's pooled features tell emotions apart, layer by layer or together.

Step 1 of Zhao et al. (MRAC '24): rows HL, HL(18), HL(16-21) of their Table 2, and their Figure 2.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from extractors.models.devices import pick_device
from mer_store.clips.clip_list import ClipList
from mer_store.store.store import Store
from pipelines.train.choices import FeatureChoice, ProtocolSettings, require
from pipelines.train.epochs import Epochs, TrainingState
from pipelines.train.features import Combine, Features, choice_of, open_features
from pipelines.train.folds import assign_folds
from pipelines.train.lanes import (
    Lane,
    count_batches,
    epoch_batches,
    lanes_of,
    make_lanes,
    of_all_clips,
    settle,
)
from pipelines.train.layer_sweep import LayerScore, write_layer_sweep
from pipelines.train.predictions import Predictions, from_logits
from pipelines.train.probe_model import Probes, ProbeShape
from pipelines.train.roster import Roster, Rows, clip_weights, make_roster, read_roster
from pipelines.train.run_folder import RunFolder
from pipelines.train.scores import choice_scores, summarise_scores
from pipelines.train.selection import BestEpochs
from pipelines.train.stacked import (
    Noise,
    Standardise,
    cross_entropy,
    gather,
    lane_streams,
    mean_loss,
    spread,
)
from pipelines.train.trainers import Job

PAPER_LAYER = 18


@dataclass(frozen=True, kw_only=True)
class Settings(ProtocolSettings):
    """What the paper leaves open is said; the official baseline's value is taken where it has one."""

    modality: Literal["audio", "visual", "text"] = "audio"
    features: FeatureChoice = field(default_factory=lambda: FeatureChoice(layers="18"))
    combine: Literal["each", "learned", "mean", "sum"] = "learned"
    """``each``: a probe per layer; ``learned``: f = sum w_i f_i; ``mean``, ``sum``: combined on reading."""
    start_layer: int = PAPER_LAYER
    """Layer whose weight is 1 at the start (paper); the middle one where it is not among them."""
    hidden: int = 256
    """Width of the hidden layer, 0 for a linear probe. Open in the paper; as in its fusion."""
    depth: int = 1
    dropout: float = 0.3
    standardise: bool = True
    """Features to mean 0 and variance 1 over the training clips. Open in the paper."""
    class_weight: Literal["none", "balanced"] = "none"
    epochs: int = 60
    batch: int = 32
    """Baseline."""
    lr: float = 1e-4
    """Open in the paper for this step; its value for all others."""
    layer_lr: float = 1e-2
    """Of the layer weights, which have to move by 1 where others move by hundredths; they do not decay."""
    weight_decay: float = 1e-5
    """Baseline."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        super().__post_init__()
        require(0 <= self.dropout < 1, "dropout", "from 0 to below 1", self.dropout)
        require(self.hidden >= 0, "hidden", "0 (linear) or more", self.hidden)
        for name in ("epochs", "batch", "depth"):
            require(getattr(self, name) >= 1, name, "1 or more", getattr(self, name))


@dataclass(frozen=True)
class _Bench:
    """What is trained on what."""

    settings: Settings
    roster: Roster
    features: Features
    lanes: list[Lane]
    values: torch.Tensor
    """[n, L, D] on the device."""
    model: Probes

    def logits(self, clips: Rows) -> NDArray[Any]:
        """Return [S, n, C] of some clips of the roster, all of which have features."""
        return self.model.predict(self.values, self.features.row[clips]).numpy()


def train(job: Job) -> RunFolder:
    """Train the probes of all folds, repeats and layers together. Returns the finished run."""
    settings: Settings = job.settings
    roster = read_roster(job.clip_list, settings)
    features = _open(job.store, roster, settings, settings.features)
    folds = assign_folds(roster, settings)
    run = RunFolder.begin(job.runs, "probe", settings, [features.describe()], roster, folds)
    if run.finished:
        return run
    lanes = make_lanes(roster, folds, settings, features.there)
    device = pick_device(job.device)
    values = torch.from_numpy(features.values).to(device)
    model = _build(settings, features, lanes, values).to(device)
    bench = _Bench(settings, roster, features, lanes, values, model)
    optimizer = torch.optim.Adam(
        model.groups(settings.lr, settings.layer_lr), weight_decay=settings.weight_decay, fused=True
    )
    q = model.shape.n_variants
    best = BestEpochs(model, len(lanes) * q)
    weight = clip_weights(
        roster, settings.pseudo_weight, balanced=settings.class_weight == "balanced"
    )
    n_batches = count_batches(lanes, settings.batch)
    state = TrainingState({"probes": model}, {"adam": optimizer}, best)
    with Epochs(run, settings.epochs, state) as epochs:
        for epoch in epochs:
            noise = Noise(lanes, epoch, settings.batch, q, device)
            total = torch.zeros((), device=device)
            for rows, real in epoch_batches(lanes, n_batches, epoch):
                x, _ = gather(values, features.row[rows])
                label = torch.from_numpy(roster.label[rows]).to(device)
                counts = torch.from_numpy(weight[rows] * real).to(device)
                losses = cross_entropy(model(x, noise), spread(label, q))
                loss = mean_loss(losses, spread(counts, q)).sum()
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                total += loss.detach()
            facts: dict[str, float | list[float]] = {
                "loss": total.item() / (n_batches * len(lanes) * q)
            }
            if settings.selection != "last":
                scores = torch.from_numpy(choice_scores(roster, lanes, bench.logits)).float()
                best.offer(epoch, scores)
                facts["weighted_f1"] = scores.mean().item()
            if model.layer_sum is not None:
                facts["layer_weights"] = model.layer_sum.weight.detach().mean(dim=0).tolist()
            epochs.log(**facts)
    if settings.selection != "last":
        best.take()
    _finish(run, bench, best, epochs.elapsed_s)
    return run


def predict(run: RunFolder, store: Store, clip_list: ClipList, device: str) -> Predictions:
    """Predict every clip that has the features; scored clips by the folds that did not see them."""
    settings: Settings = run.settings(Settings)
    roster = make_roster(clip_list.clips, settings.classes)
    [trained_on] = run.inputs
    features = _open(store, roster, settings, choice_of(trained_on))
    lanes = lanes_of(run.folds(), roster, settings)
    chosen = pick_device(device)
    values = torch.from_numpy(features.values).to(chosen)
    model = _build(settings, features, lanes, None).to(chosen)
    model.load_state_dict(run.weights())
    logits = _variant_logits(model, values, features.row)[run.summary["best_variant"]]
    return from_logits(roster.clip_ids, settings.classes, settle(lanes, logits))


def _open(store: Store, roster: Roster, settings: Settings, choice: FeatureChoice) -> Features:
    combine: Combine = "each"
    if settings.combine in ("mean", "sum"):
        combine = settings.combine
    return open_features(store, settings.modality, choice, roster, combine)


def _build(
    settings: Settings, features: Features, lanes: list[Lane], values: torch.Tensor | None
) -> Probes:
    """Make the probes; without `values` the standardisation is to be loaded."""
    n_layers = features.values.shape[1]
    shape = ProbeShape(
        n_layers, features.width, len(settings.classes), settings.hidden, settings.depth,
        each=settings.combine == "each",
    )  # fmt: skip
    nothing = Standardise.nothing(len(lanes), (n_layers, features.width))
    fitted = values is not None and settings.standardise
    standardise = (
        Standardise.fit(values, features.row, lanes) if fitted and values is not None else nothing
    )
    names = list(features.layers)
    start = names.index(settings.start_layer) if settings.start_layer in names else n_layers // 2
    return Probes(
        shape, standardise, settings.dropout, start, lane_streams(lanes, shape.n_variants)
    )


def _variant_logits(model: Probes, values: torch.Tensor, row: Rows) -> list[NDArray[Any]]:
    """Return [K, clips, C] for each of the Q variants, NaN for clips without features."""
    there, q = np.flatnonzero(row >= 0), model.shape.n_variants
    logits = model.predict(values, row[there]).numpy()
    return [of_all_clips(logits[variant::q], there, len(row)) for variant in range(q)]


def _finish(run: RunFolder, bench: _Bench, best: BestEpochs, elapsed_s: float) -> None:
    settings, features, model, lanes = bench.settings, bench.features, bench.model, bench.lanes
    variants = []
    for logits in _variant_logits(model, bench.values, features.row):
        settled = settle(lanes, logits)
        variants.append((summarise_scores(bench.roster, lanes, logits, settled), settled))
    chosen = int(np.argmax([scores["weighted_f1_mean"] for scores, _ in variants]))
    scores, settled = variants[chosen]
    epochs = best.epoch[chosen :: len(variants)].tolist()
    summary: dict[str, Any] = {
        **scores,
        "selection": settings.selection,
        "seed": settings.seed,
        "best_variant": chosen,
        "epochs_chosen": settings.epochs if settings.selection == "last" else epochs,
        "n_trained_on": len(np.unique(np.concatenate([lane.train for lane in lanes]))),
        "n_without_features": int((~features.there).sum()),
        "elapsed_s": elapsed_s,
    }
    if model.shape.each:
        layers = [
            LayerScore.of(layer, found)
            for layer, (found, _) in zip(features.layers, variants, strict=True)
        ]
        summary["layers"] = [asdict(layer) for layer in layers]
        summary["best_layer"] = features.layers[chosen]
        write_layer_sweep(run.path, layers, scores["spread_over"], settings.selection, features)
    elif model.layer_sum is not None:
        summary["layer_weights"] = model.layer_sum.describe(features.layers)
    predictions = from_logits(bench.roster.clip_ids, settings.classes, settled)
    run.finish(summary, model.state_dict(), predictions)
