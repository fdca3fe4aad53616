"""Aligned features of every clip that has visual ones, written beside them."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from extractors.models.devices import pick_device
from mer_store.clips.clip_list import ClipList
from mer_store.layers import Layer
from mer_store.spec import Spec
from mer_store.store.feature_set import FeatureSet
from mer_store.store.store import Store
from pipelines.train.align_model import PIECE_ROWS, Aligner
from pipelines.train.derived import Derivation, write_derived
from pipelines.train.run_folder import RunFolder

ALIGNED = "aligned"
"""Recipe of the derived feature set, and its one layer."""


def derive(
    run: RunFolder, store: Store, clip_list: ClipList | None = None, device: str = "auto"
) -> FeatureSet:
    """Write aligned features of every clip that has the visual ones, labelled or not, and lacks them.

    Parameters
    ----------
    clip_list
        Which clips; None is all that the visual feature set speaks of.
    """
    model = Aligner.of_weights(run.weights()).to(pick_device(device))
    base = find_base(run, store)
    derivation = Derivation(
        base=base,
        reads=_visual_layers(run),
        spec=aligned_spec(run, base, model),
        layers=(ALIGNED,),
        compute=lambda values: {ALIGNED: align_rows(model, values)},
    )
    clip_ids = [clip.clip_id for clip in clip_list.clips] if clip_list is not None else None
    return write_derived(store, derivation, clip_ids)


@torch.no_grad()
def align_rows(model: Aligner, values: NDArray[Any]) -> NDArray[np.float32]:
    """Return aligned features [n, A] of rows [n, L, V], the mean over the layers."""
    device = model.log_scale.device
    pieces = [
        model.align(torch.from_numpy(values[start : start + PIECE_ROWS]).to(device).float().mean(1))
        for start in range(0, len(values), PIECE_ROWS)
    ]
    aligned: NDArray[np.float32] = torch.cat(pieces).cpu().numpy()
    return aligned


def aligned_spec(run: RunFolder, base: FeatureSet, model: Aligner) -> Spec:
    """Return the spec of what `model` makes of the visual features."""
    aligned = {
        "digest": model.digest(),
        "base": base.spec.fingerprint,
        "layers": list(_visual_layers(run)),
        "audio": run.inputs[1]["fingerprint"],
    }
    return replace(
        base.spec,
        recipe=ALIGNED,
        preprocessing={**base.spec.preprocessing, ALIGNED: aligned},
        stored_dtype="float16",
    )


def find_base(run: RunFolder, store: Store) -> FeatureSet:
    """Return the visual feature set that a run aligned."""
    return store.features("visual", level="utterance", fingerprint=run.inputs[0]["fingerprint"])


def _visual_layers(run: RunFolder) -> tuple[Layer, ...]:
    return tuple(run.inputs[0]["layers"])
