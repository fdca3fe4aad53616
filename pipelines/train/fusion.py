"""The fusion trainer: attention over acoustic, visual and lexical features, all folds and draws side by side.

Step 4 of Zhao et al. (MRAC '24): rows A+V, A+V-aligned, A+T and A+V+T of their Table 2.
"""

import csv
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from extractors.models.devices import pick_device
from mer_store.clips.clip_list import ClipList
from mer_store.errors import UsageError
from mer_store.spec import MODALITIES
from mer_store.store.store import Store
from pipelines.train.choices import FeatureChoice, ProtocolSettings, require
from pipelines.train.epochs import Epochs, TrainingState
from pipelines.train.features import choice_of, open_features
from pipelines.train.folds import assign_folds
from pipelines.train.fusion_data import Inputs
from pipelines.train.fusion_stack import FusionStack, Variant
from pipelines.train.lanes import (
    Lane,
    count_batches,
    epoch_batches,
    lanes_of,
    make_lanes,
    of_all_clips,
    settle,
)
from pipelines.train.predictions import Predictions, from_logits
from pipelines.train.roster import Roster, clip_weights, make_roster, read_roster
from pipelines.train.run_folder import CHECKPOINT, RunFolder
from pipelines.train.scores import summarise_scores
from pipelines.train.search import SearchSettings, draw_variants
from pipelines.train.trainers import Job

ATTENTION, SEARCH = "attention.csv", "search"
RANKED_BY = {
    "inner": "the inner part of the training folds",
    "fold": "the scored folds: optimistic",
    "last": "the scored folds: optimistic",
}
"""From the selection to the clips whose score chose among the draws."""


@dataclass(frozen=True, kw_only=True)
class Settings(ProtocolSettings):
    """What the paper leaves open is said; the official baseline's value is taken where it has one."""

    modalities: tuple[str, ...] = MODALITIES
    audio: FeatureChoice = field(default_factory=lambda: FeatureChoice(layers="16-21"))
    visual: FeatureChoice = field(default_factory=lambda: FeatureChoice(layers="embed"))
    text: FeatureChoice = field(default_factory=lambda: FeatureChoice(layers="last4"))
    combine: Literal["mean", "sum"] = "mean"
    """How several layers of a modality become one vector, while they are read."""
    hidden: int = 256
    """Width of h (paper)."""
    depth: int = 2
    """Layers of each modality's MLP. Open in the paper."""
    dropout: float = 0.3
    """After each of them. Open in the paper; the baseline tries 0.2 to 0.5."""
    modality_dropout: float = 0.0
    """Share of the modalities that training drops at random, never the last one of a clip."""
    standardise: bool = True
    """Features to mean 0 and variance 1 over the training clips. Open in the paper."""
    class_weight: Literal["none", "balanced"] = "none"
    epochs: int = 100
    """Baseline."""
    batch: int = 32
    """Baseline."""
    lr: float = 1e-4
    """Paper."""
    weight_decay: float = 1e-5
    """Baseline."""
    search: SearchSettings = field(default_factory=SearchSettings)

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        super().__post_init__()
        known = set(self.modalities) <= set(MODALITIES) and len(set(self.modalities)) > 0
        require(known, "modalities", f"some of {', '.join(MODALITIES)}", ", ".join(self.modalities))
        for name in ("dropout", "modality_dropout"):
            share = getattr(self, name)
            require(0 <= share < 1, name, "from 0 to below 1", share)
        for name in ("epochs", "batch", "depth"):
            require(getattr(self, name) >= 1, name, "1 or more", getattr(self, name))

    def choice(self, modality: str) -> FeatureChoice:
        """Return which features of a modality are read."""
        choice: FeatureChoice = getattr(self, modality)
        return choice

    @property
    def variant(self) -> Variant:
        """The model that is trained where none is searched for."""
        return Variant(self.hidden, self.dropout, self.lr)


def train(job: Job) -> RunFolder:
    """Train the models of all folds and repeats together, after a search where one is asked for."""
    settings: Settings = job.settings
    roster = read_roster(job.clip_list, settings)
    features = [
        open_features(job.store, name, settings.choice(name), roster, settings.combine)
        for name in settings.modalities
    ]
    folds = assign_folds(roster, settings)
    described = [item.describe() for item in features]
    run = RunFolder.begin(job.runs, "fusion", settings, described, roster, folds)
    if run.finished:
        return run
    inputs = Inputs.load(features, pick_device(job.device))
    lanes = make_lanes(roster, folds, settings, inputs.usable)
    draws: list[dict[str, Any]] = []
    variant = settings.variant
    if settings.search.draws:
        once = replace(settings, repeats=1)
        searched = make_lanes(roster, folds, once, inputs.usable)
        variants = draw_variants(settings.search, settings.seed)
        stacks, _ = _fit(RunFolder(run.path / SEARCH), once, roster, inputs, searched, variants)
        draws = _rank(stacks, inputs, roster, searched, settings)
        variant = Variant(**{name: draws[0][name] for name in ("hidden", "dropout", "lr")})
    stacks, elapsed_s = _fit(run, settings, roster, inputs, lanes, [variant])
    [stack] = stacks
    _finish(run, settings, roster, inputs, lanes, stack, {
        "draws": draws,
        "draws_ranked_by": RANKED_BY[settings.selection] if draws else "",
        "model": vars(variant),
        "epochs_chosen": stack.epochs_chosen(settings.epochs),
        "elapsed_s": elapsed_s,
    })  # fmt: skip
    (run.path / SEARCH / CHECKPOINT).unlink(missing_ok=True)
    return run


def _fit(
    run: RunFolder, settings: Settings, roster: Roster, inputs: Inputs, lanes: list[Lane],
    variants: list[Variant],
) -> tuple[list[FusionStack], float]:  # fmt: skip
    """Train every variant in every lane, in one pass over the data; stacks hold variants of one shape."""
    run.path.mkdir(exist_ok=True)
    stacks = FusionStack.build(variants, settings, inputs, lanes)
    state = TrainingState({}, {}, *(stack.state for stack in stacks))
    weight = clip_weights(
        roster, settings.pseudo_weight, balanced=settings.class_weight == "balanced"
    )
    n_batches = count_batches(lanes, settings.batch)
    with Epochs(run, settings.epochs, state) as epochs:
        for epoch in epochs:
            for stack in stacks:
                stack.begin(epoch)
            for rows, real in epoch_batches(lanes, n_batches, epoch):
                x, present = inputs.batch(rows)
                label = torch.from_numpy(roster.label[rows]).to(inputs.device)
                counts = torch.from_numpy(weight[rows] * real).to(inputs.device)
                for stack in stacks:
                    stack.step(x, present, label, counts)
            facts = {"loss": sum(stack.mean_loss(n_batches) for stack in stacks) / len(stacks)}
            if settings.selection != "last":
                scores = [stack.choose(epoch, inputs, roster) for stack in stacks]
                facts["weighted_f1"] = sum(scores) / len(scores)
            epochs.log(**facts)
    for stack in stacks:
        stack.take_chosen()
    return stacks, epochs.elapsed_s


def _rank(
    stacks: list[FusionStack], inputs: Inputs, roster: Roster, lanes: list[Lane], settings: Settings
) -> list[dict[str, Any]]:
    """Return the draws, best first, each with its mean score over the folds.

    With an inner part held out they are ranked by their mean score on it, else by that on the folds.
    """
    scored = np.unique(np.concatenate([lane.validate for lane in lanes]))
    draws = []
    for stack in stacks:
        logits, _ = stack.predict(inputs, scored)
        for number, variant in enumerate(stack.variants):
            full = of_all_clips(logits[number :: len(stack.variants)], scored, len(roster.clip_ids))
            score = summarise_scores(roster, lanes, full, settle(lanes, full))["weighted_f1_mean"]
            draws.append({**vars(variant), "weighted_f1_mean": score})
            if settings.selection == "inner" and stack.chosen_scores is not None:
                draws[-1]["inner_f1_mean"] = float(stack.chosen_scores[:, number].mean())
    ranked_by = "inner_f1_mean" if settings.selection == "inner" else "weighted_f1_mean"
    return sorted(draws, key=lambda draw: -draw[ranked_by])


def predict(run: RunFolder, store: Store, clip_list: ClipList, device: str) -> Predictions:
    """Predict every clip that has any of the modalities; scored clips by the folds that did not see them."""
    settings: Settings = run.settings(Settings)
    roster = make_roster(clip_list.clips, settings.classes)
    features = [
        open_features(store, item["modality"], choice_of(item), roster, settings.combine)
        for item in run.inputs
    ]
    inputs = Inputs.load(features, pick_device(device))
    lanes = lanes_of(run.folds(), roster, settings)
    variant = Variant(**run.summary["model"])
    [stack] = FusionStack.build([variant], settings, inputs, lanes, fitted=False)
    stack.model.load_state_dict(run.weights())
    logits, _ = _all(stack, inputs, len(roster.clip_ids))
    return from_logits(roster.clip_ids, settings.classes, settle(lanes, logits))


def _all(stack: FusionStack, inputs: Inputs, n_clips: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return logits [K, clips, C] and attention [K, clips, M], NaN for clips without features."""
    there = np.flatnonzero(inputs.usable)
    logits, attention = stack.predict(inputs, there)
    return of_all_clips(logits, there, n_clips), of_all_clips(attention, there, n_clips)


def _finish(
    run: RunFolder, settings: Settings, roster: Roster, inputs: Inputs, lanes: list[Lane],
    stack: FusionStack, facts: dict[str, Any],
) -> None:  # fmt: skip
    logits, attention = _all(stack, inputs, len(roster.clip_ids))
    settled, weights = settle(lanes, logits), settle(lanes, attention)
    predictions = from_logits(roster.clip_ids, settings.classes, settled)
    if not predictions.clip_ids:
        raise UsageError(f"{run.path}: no clip has features to predict")
    with (run.path / ATTENTION).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["clip_id", *settings.modalities])
        for row in np.flatnonzero(np.isfinite(weights).all(axis=1)).tolist():
            writer.writerow([roster.clip_ids[row], *(f"{value:.6f}" for value in weights[row])])
    present = inputs.present
    summary = {
        **summarise_scores(roster, lanes, logits, settled),
        "selection": settings.selection,
        "seed": settings.seed,
        "modalities": list(settings.modalities),
        "n_with": dict(zip(settings.modalities, present.sum(axis=0).tolist(), strict=True)),
        "n_without_features": int((~inputs.usable).sum()),
        **facts,
    }
    run.finish(summary, stack.model.state_dict(), predictions)
