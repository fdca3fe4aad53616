"""The visual extractor: a clip's face crops in, CLIP's states per image and per clip out."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from extractors.contract import (
    Blob,
    ClipProblem,
    ExtractorRequest,
    Identity,
    Loaded,
    States,
    Want,
)
from extractors.models.copies import to_device
from extractors.models.devices import pick_device, pick_dtype
from extractors.visual.clip import EMBED, VisionTower, describe_model
from extractors.visual.face_source import CODE_VERSION, ReadsFaces, face_source
from extractors.visual.faces.crops import FaceClip
from extractors.visual.faces.detector import Rgb
from extractors.visual.faces.stored import StoredCrops
from mer_store.layers import Layer, sort_layers


class VisualExtractor(ReadsFaces):
    """Faces through CLIP's vision tower. Frame level: a row per image that shows the chosen face.

    Raises
    ------
    UsageError
        The recipe, model, faces or device asked for cannot be had.
    """

    equal_sizes = False

    def __init__(self, request: ExtractorRequest) -> None:
        self._device = pick_device(request.device)
        self._dtype, dtype_name = pick_dtype(self._device, request.compute_dtype)
        super().__init__(face_source(request, self._device))
        self._described = describe_model(request.model)
        self._tower: VisionTower | None = None
        self.identity = Identity(
            modality="visual",
            model=self._described.name,
            weights=self._described.weights,
            recipe=request.recipe,
            preprocessing={
                "faces": dict(self._faces.settings),
                "pixels": dict(self._described.pixels.settings),
                "states": "class token; embed projected, not normalised",
                "code": CODE_VERSION,
            },
            pooling="mean",
            compute_dtype=dtype_name,
            trained=self._described.trained,
            layers=self._described.layers,
            widths=self._described.widths,
            default_layers=(EMBED,),
        )

    @cached_property
    def batch_limit(self) -> int:
        """Images of a forward pass: what the device has memory for."""
        return self._described.images_that_fit(self._device)

    def load(self, blob: Blob) -> Loaded:
        """Find and cut out the clip's face. Raises `ClipEmpty` without one, `ClipFailed` if unreadable."""
        clip = self._find(blob)
        n_crops = len(clip.crops)
        return Loaded(blob.clip_id, clip, size=n_crops, media_s=clip.media_s, n_frames=n_crops)

    @property
    def base_spec(self) -> Mapping[str, Any] | None:
        """Spec of the stored crops that `load_states` takes; None where there is a video."""
        return self._faces.spec if isinstance(self._faces, StoredCrops) else None

    @property
    def base_layers(self) -> tuple[int, ...]:
        """Their one layer."""
        return (0,)

    def load_states(self, clip_id: str, states: NDArray[Any]) -> Loaded:
        """Take a clip's stored crops instead of its video: rows of bytes. Raises ValueError."""
        if not isinstance(self._faces, StoredCrops):
            raise TypeError("this extractor takes no stored crops")
        clip = self._faces.of_rows(states)
        return Loaded(clip_id, clip, len(clip.crops), clip.media_s, len(clip.crops))

    def __call__(self, batch: Sequence[Loaded], want: Want) -> list[States | ClipProblem]:
        """Run the model over all crops of all clips, `batch_limit` images a forward pass at most."""
        if self._tower is None:
            self._tower = self._described.load(self._device, self._dtype)
        layers = sort_layers({*want.utterance, *want.frame})
        rows = [_Rows(want) for _ in batch]
        problems: dict[int, ClipProblem] = {}
        for pieces in _packed(self._pieces(batch, problems), self.batch_limit):
            pixels = torch.cat([self._to_pixels(crops) for _, crops in pieces])
            states = self._tower(pixels, layers)
            ends = np.cumsum([len(crops) for _, crops in pieces])
            for (clip, crops), end in zip(pieces, ends, strict=True):
                rows[clip].add({k: v[end - len(crops) : end] for k, v in states.items()})
        return [
            problems.get(clip) or rows[clip].close(loaded.payload)
            for clip, loaded in enumerate(batch)
        ]

    def _pieces(
        self, batch: Sequence[Loaded], problems: dict[int, ClipProblem]
    ) -> Iterator[tuple[int, Rgb]]:
        """Yield crops with the clip they belong to; a clip that breaks does not touch the others."""
        for clip, loaded in enumerate(batch):
            try:
                for crops in loaded.payload.crops.chunks(self.batch_limit):
                    yield clip, crops
            except ClipProblem as problem:
                problems[clip] = problem

    def _to_pixels(self, crops: Rgb) -> torch.Tensor:
        return self._described.pixels(to_device(torch.from_numpy(crops), self._device))


def _packed(pieces: Iterator[tuple[int, Rgb]], limit: int) -> Iterator[list[tuple[int, Rgb]]]:
    """Group pieces into forward passes of `limit` images at most."""
    group: list[tuple[int, Rgb]] = []
    for piece in pieces:
        if group and sum(len(crops) for _, crops in [*group, piece]) > limit:
            yield group
            group = []
        group.append(piece)
    if group:
        yield group


class _Rows:
    """Collects one clip's rows. Only a sum is kept of layers wanted at utterance level alone."""

    def __init__(self, want: Want) -> None:
        self._sums: dict[Layer, Any] = dict.fromkeys(want.utterance, 0.0)
        self._frames: dict[Layer, list[NDArray[np.float32]]] = {k: [] for k in want.frame}
        self._n_rows = 0

    def add(self, states: Mapping[Layer, NDArray[np.float32]]) -> None:
        """Take the next rows [n, D] of every wanted layer."""
        for layer in self._sums:
            self._sums[layer] = self._sums[layer] + states[layer].sum(axis=0, dtype=np.float64)
        for layer, held in self._frames.items():
            held.append(states[layer])
        self._n_rows += len(next(iter(states.values())))

    def close(self, clip: FaceClip) -> States:
        """Return the clip's features."""
        return States(
            utterance={
                layer: (total / self._n_rows).astype(np.float32)
                for layer, total in self._sums.items()
            },
            frame={layer: np.concatenate(held) for layer, held in self._frames.items()},
            tables={} if clip.table is None else {"images": clip.table},
        )
