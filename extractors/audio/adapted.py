"""Clips' speech to adapted features: the upper blocks of a speech model with trained adapters in them.

Runs from a clip's cached states where there are any, else from its sound: the same numbers either way, since
what lies below the adapters is rounded as the cache rounds it. (Float32 sums in another order, in another
batch, may round the other way here and there: by one step of float16.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from extractors.audio.boundary import Cached, as_stored
from extractors.audio.extractor import CPU_BATCH_SAMPLES, AudioExtractor
from extractors.audio.rows import split_batch
from extractors.contract import (
    Blob,
    ClipFailed,
    ClipProblem,
    ExtractorRequest,
    Floats,
    Identity,
    Loaded,
    Source,
    States,
    Want,
)
from extractors.media.blob import read_blob
from extractors.models.adapter import AdaptedBlocks, fuse, load_blocks, pool
from extractors.models.blocks import pad_frames
from extractors.models.copies import to_device
from extractors.models.devices import arithmetic, pick_device, pick_dtype
from extractors.models.half import hold_products
from extractors.models.memory import Halving, padded_size, weights_must_fit
from extractors.models.saved_adapter import load_adapter
from extractors.models.speech import RATE_HZ, open_model
from mer_store.errors import UsageError
from mer_store.layers import Layer, describe_layers

RECIPE, FUSED = "adapter", "fused"
#: Raised when a change of this code changes numbers.
VERSION = 1


class AdaptedExtractor:
    """Adapted layers, and ``fused``: their sum with the learnt weights.

    Parameters
    ----------
    request
        ``adapter`` is the run's folder; ``model`` the base model, where it is not where the trainer had it.

    Raises
    ------
    UsageError
        No such adapter, or the base model is not the one it was trained with.
    """

    def __init__(self, request: ExtractorRequest) -> None:
        self._saved = load_adapter(request.adapter or "")
        facts, base = self._saved.facts, self._saved.facts.base_spec
        _refuse_others(request, base)
        self._in_blocks = facts.site == "blocks"
        self._halving = Halving()
        self._device = pick_device(request.device)
        self._dtype, _ = pick_dtype(self._device, base["compute_dtype"])
        self._base_request = replace(
            request, adapter=None, model=request.model or facts.model, recipe=base["recipe"],
            compute_dtype=base["compute_dtype"],
        )  # fmt: skip
        self.equal_sizes = self._base.equal_sizes if self._in_blocks else True
        self.identity = self._identify()

    @property
    def base_spec(self) -> Mapping[str, Any]:
        """Spec of the feature set whose states `load_states` takes."""
        return self._saved.facts.base_spec

    @property
    def base_layers(self) -> tuple[int, ...]:
        """Layers of that feature set that `load_states` takes: one of frames, or the pooled ones."""
        facts = self._saved.facts
        return (facts.first,) if self._in_blocks else facts.layers

    def _identify(self) -> Identity:
        facts, base = self._saved.facts, self.base_spec
        layers: tuple[Layer, ...] = (*sorted(facts.layers), FUSED)
        return Identity(
            modality="audio",
            model=base["model"],
            weights=base["weights"],
            recipe=RECIPE,
            preprocessing={
                **base["preprocessing"],
                "adapter": {
                    "digest": self._saved.digest,
                    "base": facts.base_spec_fingerprint,
                    "site": facts.site,
                    "starts_from": f"layers {describe_layers(self.base_layers)}, rounded as they are stored",
                    "version": VERSION,
                },
            },
            pooling="mean",
            compute_dtype=base["compute_dtype"],
            trained=base["trained"],
            layers=layers,
            widths=dict.fromkeys(layers, facts.width),
            default_layers=layers,
        )

    @property
    def batch_limit(self) -> int:
        """Samples of a padded batch; cached frames count as the samples they were made from."""
        return self._base.batch_limit if self._in_blocks else CPU_BATCH_SAMPLES

    @cached_property
    def _base(self) -> AudioExtractor:
        """The extractor of what lies below the adapters."""
        base = AudioExtractor(self._base_request)
        if base.identity.weights != self._saved.facts.weights:
            raise UsageError(
                f"--adapter: it was trained on {self.base_spec['model']} with weights "
                f"{self._saved.facts.weights}; {self._base_request.model} has {base.identity.weights}: pass "
                f"the same checkpoint by --model"
            )
        return base

    @cached_property
    def _base_if_here(self) -> AudioExtractor | None:
        """The same, looked for once; None where it is not here, or another: pooled caches need none."""
        try:
            return self._base
        except UsageError:
            return None

    @cached_property
    def _blocks(self) -> AdaptedBlocks:
        facts = self._saved.facts
        model = open_model(str(self._base_request.model))
        frozen = load_blocks(model, facts.first, max(facts.layers))
        for block in frozen.blocks:
            hold_products(block, self._dtype)
        with weights_must_fit(self.identity.model, self._dtype, self._device):
            blocks = self._saved.in_blocks(frozen.to(self._device))
            hold_products(blocks, self._dtype)
            return blocks.to(self._device)

    def path(self, source: Source) -> Path | None:
        """Return the clip's media file."""
        return source.path

    def open(self, source: Source) -> Blob:
        """Read the clip's media file. Raises `ClipFailed` where there is none."""
        if source.path is None:
            raise ClipFailed("no media file in the clip list, and no cached states")
        return read_blob(source.clip_id, source.path)

    def load(self, blob: Blob) -> Loaded:
        """Decode, as the base model's extractor does. Raises `ClipFailed` where that model is not here."""
        if self._base_if_here is None:
            raise ClipFailed(
                f"no cached states, and no base model to make them: pass the {self.base_spec['model']} "
                f"that the adapter was trained on by --model"
            )
        return self._base_if_here.load(blob)

    def load_states(self, clip_id: str, states: Floats) -> Loaded:
        """Take a clip's cached states instead of its media: [T, D] of the first layer, or [L, D] pooled."""
        shift_s = self.base_spec["preprocessing"].get("frame_shift_s", 0.02)
        n_frames = len(states) if self._in_blocks else 1
        media_s = n_frames * shift_s if self._in_blocks else 0.0
        size = max(1, round(media_s * RATE_HZ))
        return Loaded(clip_id, Cached(states), size=size, media_s=media_s, n_frames=n_frames)

    @torch.inference_mode()
    def __call__(self, batch: Sequence[Loaded], want: Want) -> list[States | ClipProblem]:
        """Return the adapted states of each clip.

        Raises
        ------
        UsageError
            A layer is wanted that there is no adapter for, or frames of a site without frames.
        """
        if unknown := {*want.utterance, *want.frame} - set(self.identity.layers):
            offered = describe_layers(self.identity.layers)
            raise UsageError(f"--adapter: no layer {describe_layers(unknown)}; it has {offered}")
        if want.frame and not self._in_blocks:
            raise UsageError("--adapter: adapters on pooled outputs have no frame level")
        states = self._cached(batch)
        clips = [one.states for one in states if isinstance(one, Cached)]
        adapted = iter(self._adapt_halving(clips, want))
        return [next(adapted) if isinstance(one, Cached) else one for one in states]

    def _cached(self, batch: Sequence[Loaded]) -> list[Cached | ClipProblem]:
        """Return what the adapters start from, running the base model where it is not cached."""
        raw = [loaded for loaded in batch if not isinstance(loaded.payload, Cached)]
        below = self.base_layers
        base_want = Want(frame=below) if self._in_blocks else Want(utterance=below)
        computed = iter(self._base(raw, base_want) if raw else [])
        found: list[Cached | ClipProblem] = []
        for loaded in batch:
            if isinstance(loaded.payload, Cached):
                found.append(loaded.payload)
                continue
            outcome = next(computed)
            if isinstance(outcome, ClipProblem):
                found.append(outcome)
                continue
            layers = outcome.frame if self._in_blocks else outcome.utterance
            dtype = self.base_spec["stored_dtype"]
            stored = [as_stored(layers[layer], dtype) for layer in below]
            found.append(Cached(stored[0] if self._in_blocks else np.stack(stored)))
        return found

    def _too_large(self, states: Floats) -> ClipFailed:
        return ClipFailed(f"no memory on {self._device} for {len(states)} frames of adapted blocks")

    def _adapt_halving(self, clips: Sequence[Floats], want: Want) -> list[States | ClipProblem]:
        """Adapt the clips, in pieces where memory asks for it."""
        if self._in_blocks and clips:
            _ = self._blocks  # loaded here: weights that do not fit are no clip's fault
        return self._halving(
            clips, padded_size, lambda some: self._adapt(some, want), self._too_large
        )

    def _adapt(self, clips: Sequence[Floats], want: Want) -> list[States | ClipProblem]:
        weight = self._saved.layer_weights.to(self._device)
        if not self._in_blocks:
            pooled = self._saved.on_outputs()(torch.from_numpy(np.stack(clips)))
            given: dict[Layer, Tensor] = {FUSED: fuse(weight.cpu(), pooled)}
            given.update(zip(self._saved.facts.layers, pooled.unbind(dim=1), strict=True))
            return split_batch(given, {}, [1] * len(clips), want)
        frames, real = pad_frames(clips)
        real = None if real is None else to_device(real, self._device)
        with arithmetic(self._device, self._dtype):
            layers: dict[Layer, Tensor] = dict(self._blocks(to_device(frames, self._device), real))
        layers = {layer: values.float() for layer, values in layers.items()}
        each = [layers[n] for n in self._saved.facts.layers]
        layers[FUSED] = torch.einsum("l,lbtd->btd", weight, torch.stack(each))
        pooled_layers = {layer: pool(layers[layer], real) for layer in want.utterance}
        lengths = [len(clip) for clip in clips]
        return split_batch(pooled_layers, {n: layers[n] for n in want.frame}, lengths, want)


def _refuse_others(request: ExtractorRequest, base: Mapping[str, Any]) -> None:
    """Refuse settings that the features the adapters were trained on have decided already."""
    for option, got, decided in (
        ("--recipe", request.recipe, ("default", RECIPE, base["recipe"])),
        ("--compute-dtype", request.compute_dtype, ("auto", base["compute_dtype"])),
    ):
        if got not in decided:
            raise UsageError(
                f"{option} {got}: with --adapter it is that of the features the adapter was trained on, "
                f"{decided[-1]}; leave the option out"
            )
