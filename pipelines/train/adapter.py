"""The adapter trainer: adapters in HuBERT's upper blocks, from the cached frames of the layer below them.

Step 2 of Zhao et al. (MRAC '24): rows HLFT(18) and HLFT(16-21) of their Table 2. A model per fold gives the
score; one more, trained on all labelled clips, gives the features (`mer-store extract --adapter RUN`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

import numpy as np
import torch

from extractors.models.adapter import AdaptedBlocks, FrozenBlocks, OutputAdapters, load_blocks
from extractors.models.devices import pick_device
from extractors.models.saved_adapter import WEIGHT, AdapterFacts, SavedAdapter, save_adapter
from extractors.models.speech import SpeechModel, open_model
from extractors.models.tiny import TINY
from mer_store.clips.clip_list import ClipList
from mer_store.errors import UsageError
from mer_store.layers import parse_layers
from mer_store.store.store import Store
from pipelines.train.adapter_data import CachedStates, open_states
from pipelines.train.adapter_lane import AdapterLane, predict_lanes
from pipelines.train.adapter_model import AdapterModel, Head
from pipelines.train.choices import FeatureChoice, ProtocolSettings, require
from pipelines.train.epochs import Epochs, TrainingState
from pipelines.train.features import Features
from pipelines.train.folds import assign_folds
from pipelines.train.lanes import Lane, lanes_of, make_lanes, settle
from pipelines.train.predictions import Predictions, from_logits
from pipelines.train.roster import Roster, clip_weights, make_roster, read_roster
from pipelines.train.run_folder import CHECKPOINT, RunFolder
from pipelines.train.scores import summarise_scores
from pipelines.train.streams import stream
from pipelines.train.trainers import Job

PAPER_LAYER = 18
REFIT = "refit"


@dataclass(frozen=True, kw_only=True)
class Settings(ProtocolSettings):
    """Values are the paper's; what it leaves open is said."""

    site: Literal["blocks", "outputs"] = "blocks"
    """``blocks``: in the model's blocks, from cached frames. ``outputs``: on the pooled layers, for members
    who hold only those."""
    model: str = ""
    """Base model: hub name or folder. Needed for ``blocks``, unless the features are of the tiny model."""
    layers: str = "16-21"
    """Where adapters are, and what is fused."""
    frames: FeatureChoice = field(default_factory=lambda: FeatureChoice(layers="15"))
    """Feature set at frame level, and its layer below the first block that is run."""
    pooled: FeatureChoice = field(default_factory=FeatureChoice)
    """Feature set at utterance level, for ``outputs``."""
    start_layer: int = PAPER_LAYER
    """Layer whose weight is 1 at the start; the middle one where it is not among them."""
    placement: Literal["output", "attention", "feed_forward"] = "output"
    """Where in its block an adapter sits. Open in the paper."""
    bottleneck: int = 128
    masked_share: float = 0.15
    """Share of the fused feature that is masked, in training only. Open in the paper."""
    detach_target: bool = False
    """Keep the gradient of the rebuilding loss out of its target. Open in the paper."""
    epochs: int = 30
    """Open in the paper."""
    batch: int = 16
    lr: float = 1e-4
    layer_lr: float = 1e-4
    """Of the layer weights, which do not decay."""
    weight_decay: float = 0.02
    predict: Literal["all", "labelled"] = "all"
    """Which clips are predicted at the end: it takes the blocks of every fold over all of them."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        super().__post_init__()
        require(0 <= self.masked_share < 1, "masked_share", "from 0 to below 1", self.masked_share)
        least = min(self.epochs, self.batch, self.bottleneck)
        require(least >= 1, "epochs, batch, bottleneck", "1 or more", least)
        pooled = self.pooled.layers
        require(not pooled, "pooled.layers", "nothing, `layers` says it for both sites", pooled)


def train(job: Job) -> RunFolder:
    """Train the adapters of every fold side by side, then those for all labelled clips.

    No clip is left to choose the last ones' epoch: they train for the median of the folds' chosen epochs.
    """
    settings: Settings = job.settings
    roster = read_roster(job.clip_list, settings)
    features = open_states(job.store, roster, settings)
    folds = assign_folds(roster, settings)
    run = RunFolder.begin(job.runs, "adapter", settings, [features.describe()], roster, folds)
    if run.finished:
        return run
    lanes = make_lanes(roster, folds, settings, features.there)
    states = CachedStates(features, pick_device(job.device))
    maker = _Maker.of(features, settings, pick_device(job.device))
    models, elapsed_s = _fit(run, settings, roster, states, maker, lanes, settings.epochs)
    everything = np.unique(np.concatenate([lanes[0].train, lanes[0].choose, lanes[0].validate]))
    none = everything[:0]
    refit = Lane(0, len(lanes), settings.seed, everything, none, none)
    n_epochs = round(median(model.n_epochs(settings.epochs) for model in models))
    [final], _ = _fit(
        RunFolder(run.path / REFIT), settings, roster, states, maker, [refit], n_epochs
    )
    save_adapter(run.path, SavedAdapter(maker.facts, _tensors(final.model)))
    wanted = features.there & (roster.scored if settings.predict == "labelled" else True)
    logits = predict_lanes(models, states, np.flatnonzero(wanted), len(roster.clip_ids))
    settled = settle(lanes, logits)
    weights = np.array([m.model.head.layer_weights.detach().cpu().numpy() for m in models])
    summary = {
        **summarise_scores(roster, lanes, logits, settled),
        "selection": settings.selection,
        "seed": settings.seed,
        "epochs_chosen": [model.n_epochs(settings.epochs) - 1 for model in models],
        "epochs_of_refit": n_epochs,
        "refit_saw": "the labels of all folds: features made with it are scored honestly on test clips only",
        "layer_weights": [
            {"layer": layer, "mean": float(mean), "std": float(std)}
            for layer, mean, std in zip(
                maker.facts.layers, weights.mean(axis=0), weights.std(axis=0), strict=True
            )
        ],
        "adapter": SavedAdapter(maker.facts, _tensors(final.model)).digest,
        "n_without_features": int((~features.there).sum()),
        "elapsed_s": elapsed_s,
    }
    named = {
        f"lane{number}.{name}": tensor
        for number, model in enumerate(models)
        for name, tensor in model.model.state_dict().items()
    }
    run.finish(summary, named, from_logits(roster.clip_ids, settings.classes, settled))
    (run.path / REFIT / CHECKPOINT).unlink(missing_ok=True)
    return run


def _fit(
    run: RunFolder, settings: Settings, roster: Roster, states: CachedStates, maker: "_Maker",
    lanes: Sequence[Lane], n_epochs: int,
) -> tuple[list[AdapterLane], float]:  # fmt: skip
    """Train one model a lane, all of them an epoch at a time."""
    run.path.mkdir(exist_ok=True)
    weight = clip_weights(roster, settings.pseudo_weight, balanced=False)
    models = [AdapterLane(maker.model(lane), lane, settings) for lane in lanes]
    state = TrainingState({}, {}, *(model.state for model in models))
    with Epochs(run, n_epochs, state) as epochs:
        for epoch in epochs:
            losses, scores = [], []
            for model in models:
                for rows, x, real in states.batches(model.batches(epoch)):
                    losses.append(model.step(x, real, roster.label[rows], weight[rows]))
                if settings.selection != "last" and len(model.lane.choose):
                    scores.append(model.choose(epoch, states, roster))
            ce, mlm = np.mean(losses, axis=0).tolist()
            facts: dict[str, float | list[float]] = {
                "loss": ce + mlm,
                "loss_ce": ce,
                "loss_mlm": mlm,
            }
            if scores:
                facts["weighted_f1"] = float(np.mean(scores))
            weights = torch.stack([model.model.head.layer_weights.detach() for model in models])
            epochs.log(**facts, layer_weights=weights.mean(dim=0).tolist())
    for model in models:
        model.take_chosen()
    return models, epochs.elapsed_s


def predict(run: RunFolder, store: Store, clip_list: ClipList, device: str) -> Predictions:
    """Predict every clip that has the cache; scored clips by the folds that did not see them."""
    settings: Settings = run.settings(Settings)
    roster = make_roster(clip_list.clips, settings.classes)
    [trained_on] = run.inputs
    features = open_states(store, roster, settings, trained_on["fingerprint"])
    chosen = pick_device(device)
    states, maker = CachedStates(features, chosen), _Maker.of(features, settings, chosen)
    lanes, weights = lanes_of(run.folds(), roster, settings), run.weights()
    models = []
    for number, lane in enumerate(lanes):
        model, prefix = maker.model(lane), f"lane{number}."
        own = {
            name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)
        }
        model.load_state_dict(own)
        models.append(AdapterLane(model, lane, settings))
    there = np.flatnonzero(features.there)
    logits = predict_lanes(models, states, there, len(roster.clip_ids))
    return from_logits(roster.clip_ids, settings.classes, settle(lanes, logits))


@dataclass(frozen=True)
class _Maker:
    """Makes the models of lanes around the same frozen blocks."""

    facts: AdapterFacts
    frozen: FrozenBlocks | None
    settings: Settings
    device: torch.device

    @classmethod
    def of(cls, features: Features, settings: Settings, device: torch.device) -> "_Maker":
        spec = features.feature_set.spec
        blocks = settings.site == "blocks"
        if blocks:
            base = _base_model(features, settings)
            first = int(features.layers[0])
            layers = parse_layers(settings.layers, range(first + 1, base.n_layers + 1))
            width = base.width
        else:
            first, layers, width = 0, features.layers, features.width
        numbers = tuple(int(layer) for layer in layers)
        facts = AdapterFacts(
            settings.model or spec.model, spec.weights, settings.site, settings.placement, first,
            numbers, settings.bottleneck, width, features.describe()["spec"],
        )  # fmt: skip
        frozen = load_blocks(base, first, max(numbers)).to(device) if blocks else None
        return cls(facts, frozen, settings, device)

    def model(self, lane: Lane) -> AdapterModel:
        """Return the model of a lane as it starts."""
        facts, settings = self.facts, self.settings
        generator = stream(lane.seed, "init", lane.repeat, lane.fold)
        adapters: AdaptedBlocks | OutputAdapters
        if self.frozen is not None:
            adapters = AdaptedBlocks(
                self.frozen, facts.layers, facts.placement, facts.bottleneck, generator
            )
        else:
            adapters = OutputAdapters(facts.width, facts.layers, facts.bottleneck, generator)
        n_layers, among = len(facts.layers), settings.start_layer in facts.layers
        start = facts.layers.index(settings.start_layer) if among else n_layers // 2
        head = Head(facts.width, n_layers, len(settings.classes), start, generator)
        return AdapterModel(adapters, head).to(self.device)


def _base_model(features: Features, settings: Settings) -> SpeechModel:
    """Open the base model, and make sure that it is the one that made the cache."""
    spec = features.feature_set.spec
    if not settings.model and spec.model != TINY:
        raise UsageError(
            f"setting model: the cache was made by {spec.model}; pass its hub name or folder, for example "
            f"--set model=/models/{spec.model}"
        )
    base = open_model(settings.model or spec.model)
    if base.weights != spec.weights:
        raise UsageError(
            f"setting model: {settings.model or spec.model} has weights {base.weights}; the cache "
            f"{features.feature_set.name} was made by {spec.weights}. Expected the same checkpoint"
        )
    return base


def _tensors(model: AdapterModel) -> dict[str, Any]:
    return {**model.body.state_dict(), WEIGHT: model.head.layer_weights.detach()}
