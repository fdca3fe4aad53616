"""CLIP's vision tower: any size, from a folder, the hub, or tiny.

Layers are the class token [D] of the hidden states (0 is the input of the first block, i the raw output of
block i) and ``embed``, the projected vector that CLIP compares with texts, not normalised in length.

Shape letters: N images, D width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from extractors.models.checkpoints import Checkpoint, load_pretrained, locate, weights_digest
from extractors.models.copies import HostCopies
from extractors.models.devices import arithmetic
from extractors.models.half import hold_products
from extractors.models.memory import Halving, units_that_fit, weights_must_fit
from extractors.models.tiny import TINY, tiny_clip
from extractors.visual.pixels import Pixels, pixels_of
from mer_store.errors import UsageError
from mer_store.layers import Layer

EMBED = "embed"
DEFAULT_MODEL = "openai/clip-vit-large-patch14"
#: Images of a forward pass that keep each kind of device busy.
BATCH_IMAGES = {"cpu": 32, "cuda": 256}
#: An image takes 17.5 MB in CLIP-L in float32, 11.3 MB in half precision; other sizes in proportion.
BYTES_PER_TOKEN_AND_WIDTH = 20e6 / (257 * 1024)


@dataclass(frozen=True)
class VisionModel:
    """What is known of a model before its weights are loaded."""

    name: str
    weights: str
    """Digest of its weights."""
    trained: bool
    config: Any
    """A ``CLIPVisionConfig``."""
    pixels: Pixels
    checkpoint: Checkpoint | None
    """None for ``tiny``."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Every hidden state, then the projected vector."""
        return (*range(self.config.num_hidden_layers + 1), EMBED)

    @property
    def widths(self) -> Mapping[Layer, int]:
        """D of each layer."""
        hidden = dict.fromkeys(self.layers, int(self.config.hidden_size))
        return {**hidden, EMBED: int(self.config.projection_dim)}

    def images_that_fit(self, device: torch.device) -> int:
        """Return how many images a forward pass takes, for which `device` has memory now."""
        n_tokens = (self.config.image_size // self.config.patch_size) ** 2 + 1
        bytes_per_image = BYTES_PER_TOKEN_AND_WIDTH * n_tokens * int(self.config.hidden_size)
        return units_that_fit(device, bytes_per_image, BATCH_IMAGES[device.type])

    def load(self, device: torch.device, dtype: torch.dtype) -> "VisionTower":
        """Load the weights."""
        with weights_must_fit(self.name, dtype, device):
            if self.checkpoint is None:
                return VisionTower(tiny_clip().model, device, dtype)
            return VisionTower(_load(self.checkpoint, self.config), device, dtype)


def describe_model(name_or_dir: str | None) -> VisionModel:
    """Find a model and read its settings, not its weights.

    Raises
    ------
    UsageError
        There is none of that name, it is no CLIP, or its processor does not fit it.
    """
    if name_or_dir == TINY:
        tiny = tiny_clip()
        return VisionModel(tiny.name, tiny.weights, False, tiny.model.config, pixels_of(None), None)
    checkpoint = locate(name_or_dir or DEFAULT_MODEL)
    config = _vision_config(checkpoint)
    pixels = pixels_of(checkpoint.folder)
    expected = (config.image_size, config.image_size)
    if pixels.height_width != expected:
        raise UsageError(
            f"model {checkpoint.folder}: its config takes images of {expected} pixels, its "
            f"preprocessor_config.json gives {pixels.height_width}"
        )
    return VisionModel(
        checkpoint.name, weights_digest(checkpoint), True, config, pixels, checkpoint
    )


def _vision_config(checkpoint: Checkpoint) -> Any:
    """Return the vision part of a CLIP's config, with the width that the whole model projects to."""
    from transformers import CLIPConfig, CLIPVisionConfig

    kind = checkpoint.config.get("model_type")
    if kind == "clip_vision_model":
        return CLIPVisionConfig.from_dict(checkpoint.config)
    if kind != "clip":
        raise UsageError(
            f"model {checkpoint.folder}: expected a CLIP (model_type clip or clip_vision_model), "
            f"got model_type {kind!r}"
        )
    whole = CLIPConfig.from_dict(checkpoint.config)
    # The vision tower reads its own entry, 512 where it is absent; the whole model's is the true one.
    whole.vision_config.projection_dim = whole.projection_dim
    return whole.vision_config


def _load(checkpoint: Checkpoint, config: Any) -> Any:
    from transformers import CLIPVisionModelWithProjection

    class Tower(CLIPVisionModelWithProjection):  # type: ignore[misc]
        # A whole CLIP's text half is not wanted, and no news.
        _keys_to_ignore_on_load_unexpected = (r"text_.*", r"logit_scale")

        @classmethod
        def from_pretrained(cls, folder: Any, **settings: Any) -> Any:
            """Give the config, or the folder's own is read again, trap and all."""
            try:
                return super().from_pretrained(folder, config=config, **settings)
            except RuntimeError as error:
                if "mismatched_sizes" not in str(error):
                    raise
                raise UsageError(
                    f"model {folder}: its weights have other shapes than its config.json states "
                    f"(projection_dim {config.projection_dim}, hidden_size {config.hidden_size}): "
                    "take both from one checkpoint"
                ) from error

    return load_pretrained(Tower, checkpoint, torch.float32)


class VisionTower:
    """Loaded weights on a device.

    Half precision is by autocast over weights held in it: products in half precision, norms and the residual
    sum in float32. In float32 a GPU's TF32 is off.
    """

    def __init__(self, model: Any, device: torch.device, dtype: torch.dtype) -> None:
        got, expected = model.visual_projection.weight.shape[0], model.config.projection_dim
        if got != expected:
            raise UsageError(f"CLIP: expected a projection to {expected}, the weights have {got}")
        self.device, self.dtype = device, dtype
        self.halving = Halving()
        hold_products(model, dtype)
        self._model = model.to(device).eval().requires_grad_(requires_grad=False)

    def __call__(self, pixels: Tensor, layers: Sequence[Layer]) -> dict[Layer, NDArray[np.float32]]:
        """Return float32 [N, D] per wanted layer; blocks above the highest wanted are not run.

        Parameters
        ----------
        pixels
            float32 [N, 3, height, width] on the tower's device.
        layers
            As `VisionModel.layers` names them.

        Raises
        ------
        torch.OutOfMemoryError
            There is no memory for a single image.
        """
        parts = self.halving(pixels, len, lambda part: [self._encode(part, layers)], _no_memory)
        if len(parts) == 1:
            return parts[0]
        return {layer: np.concatenate([part[layer] for part in parts]) for layer in layers}

    @torch.inference_mode()
    def _encode(self, pixels: Tensor, layers: Sequence[Layer]) -> dict[Layer, NDArray[np.float32]]:
        with arithmetic(self.device, self.dtype):
            states = self._states(pixels, set(layers))
        copies = HostCopies()
        rows = {layer: copies.take(states[layer].float()) for layer in layers}
        copies.wait()
        return {layer: values.numpy() for layer, values in rows.items()}

    def _states(self, pixels: Tensor, wanted: set[Layer]) -> dict[Layer, Tensor]:
        vision = self._model.vision_model
        blocks = vision.encoder.layers
        n_blocks = len(blocks) if EMBED in wanted else max(cast("set[int]", wanted))
        state = vision.pre_layrnorm(vision.embeddings(pixels))
        kept: dict[Layer, Tensor] = {0: state[:, 0].clone()}  # a view would keep all tokens alive
        for number, block in enumerate(blocks[:n_blocks], start=1):
            state = block(state, attention_mask=None)
            if number in wanted:
                kept[number] = state[:, 0].clone()
        if EMBED in wanted:
            kept[EMBED] = self._model.visual_projection(vision.post_layernorm(state[:, 0]))
        return kept


def _no_memory(image: Tensor) -> dict[Layer, NDArray[np.float32]]:
    """Say that it is no clip's fault: all images are of one size here."""
    raise torch.OutOfMemoryError(
        f"no memory on {image.device} for an image of {image.shape[-1]} pixels: free some, or use the CPU"
    )
