"""The alignment trainer: visual features learn to tell which audio they belong to, on clips without labels.

Step 3 of Zhao et al. (MRAC '24): row CLIPL-A of their Table 2 is a probe on what this writes to the store.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from extractors.models.devices import pick_device
from mer_store.clips.clip_list import ClipList
from mer_store.errors import UsageError
from mer_store.store.store import Store
from pipelines.train.align_features import ALIGNED, aligned_spec, derive, find_base
from pipelines.train.align_model import Aligner, contrastive_loss, cosines, recall_at
from pipelines.train.align_pairs import Pairs, batches, find_pairs, values_in_order
from pipelines.train.align_settings import Settings
from pipelines.train.epochs import Epochs, TrainingState
from pipelines.train.predictions import Predictions
from pipelines.train.roster import Rows
from pipelines.train.run_folder import RunFolder
from pipelines.train.trainers import Job

__all__ = ["Settings", "derive", "predict", "train"]

RECALLS = (1, 10)


def train(job: Job) -> RunFolder:
    """Train the vision MLP and write aligned features of all clips. Returns the finished run."""
    settings: Settings = job.settings
    pairs = find_pairs(job.store, job.clip_list, settings)
    run = RunFolder.begin(
        job.runs, "align", settings, [pairs.visual.describe(), pairs.audio.describe()]
    )
    if run.finished:
        derive(run, job.store, device=job.device)
        return run
    device = pick_device(job.device)
    visual = torch.from_numpy(values_in_order(pairs.visual)).to(device)
    audio = torch.from_numpy(values_in_order(pairs.audio)).to(device)
    model = _build(settings, visual, audio, pairs.train).to(device)
    optimizer = torch.optim.Adam(
        [
            {"params": list(model.mlp.parameters()), "weight_decay": settings.weight_decay},
            {"params": [model.log_scale], "weight_decay": 0.0},
        ],
        lr=settings.lr,
        fused=True,
    )
    state = TrainingState({"aligner": model}, {"adam": optimizer})
    recalls: dict[str, float] = {}
    with Epochs(run, settings.epochs, state) as epochs:
        for epoch in epochs:
            total = torch.zeros((), device=device)
            for rows in batches(pairs.train, settings, epoch):
                batch = torch.from_numpy(rows).to(device)
                loss = contrastive_loss(model(visual[batch], audio[batch]))
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                model.limit_temperature()
                total += loss.detach() * len(rows)
            recalls = _recalls(model, visual, audio, pairs.held_out)
            epochs.log(
                loss=total.item() / len(pairs.train), temperature=model.temperature, **recalls
            )
    recalls = recalls or _recalls(model, visual, audio, pairs.held_out)
    _finish(run, job.store, pairs, model, recalls, epochs.elapsed_s)
    derive(run, job.store, device=job.device)
    return run


def predict(run: RunFolder, store: Store, clip_list: ClipList, device: str) -> Predictions:  # noqa: ARG001
    """Say that there is nothing to predict with."""
    raise UsageError(
        f"{run.path}: align makes features, not predictions: recipe {ALIGNED}, layer {ALIGNED}, fingerprint "
        f"{run.summary['fingerprint']}. Run `mer-store train probe --config clipl-a` or `mer-store train "
        f"fusion` on them, then predict with that run"
    )


def _build(settings: Settings, visual: Tensor, audio: Tensor, train: Rows) -> Aligner:
    n_audio = audio.shape[1]
    model = Aligner(
        visual.shape[1], settings.hidden or n_audio, n_audio, settings.temperature_start, settings.seed
    )  # fmt: skip
    if settings.standardise:
        rows = torch.from_numpy(train)
        model.visual.fit(visual, rows)
        model.audio.fit(audio, rows)
    return model


@torch.no_grad()
def _recalls(model: Aligner, visual: Tensor, audio: Tensor, held_out: Rows) -> dict[str, float]:
    rows = torch.from_numpy(held_out).to(visual.device)
    similarity = cosines(model.align(visual[rows]), model.audio(audio[rows]))
    found = {f"video_to_audio_at_{k}": recall_at(similarity, k) for k in RECALLS}
    return found | {f"audio_to_video_at_{k}": recall_at(similarity.T, k) for k in RECALLS}


def _finish(
    run: RunFolder, store: Store, pairs: Pairs, model: Aligner, recalls: Mapping[str, float],
    elapsed_s: float,
) -> None:  # fmt: skip
    settings: Settings = run.settings(Settings)
    spec = aligned_spec(run, find_base(run, store), model)
    n_held_out = len(pairs.held_out)
    summary: dict[str, Any] = {
        **recalls,
        **{f"chance_at_{k}": min(k / n_held_out, 1.0) for k in RECALLS},
        "temperature": model.temperature,
        "n_pairs": pairs.n,
        "n_trained_on": len(pairs.train),
        "n_held_out": n_held_out,
        "n_without_visual": pairs.n_without_visual,
        "n_without_audio": pairs.n_without_audio,
        "feature_set": spec.name,
        "fingerprint": spec.fingerprint,
        "selection": "last",
        "epochs": settings.epochs,
        "seed": settings.seed,
        "elapsed_s": elapsed_s,
    }
    run.finish(summary, model.state_dict(), None)
