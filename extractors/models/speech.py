"""A speech model: what its checkpoint says of it, known before its weights are loaded."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from extractors.models.checkpoints import load_pretrained, locate, weights_digest
from extractors.models.tiny import TINY, tiny_hubert
from mer_store.errors import UsageError

MODEL_CLASSES = {"hubert": "HubertModel", "wav2vec2": "Wav2Vec2Model", "wavlm": "WavLMModel"}
RATE_HZ = 16000
#: Tensors that only training or a head on top uses.
NOT_NEEDED = ("masked_spec_embed", r"adapter\..*")


@dataclass(frozen=True)
class SpeechModel:
    """A model that can be loaded, and all that is known of it before."""

    name: str
    weights: str
    trained: bool
    config: Any
    """The transformers config."""
    normalises: bool
    """Whether its input is shifted and scaled to mean 0 and variance 1."""
    build: Callable[[], Any]
    """Gives the transformers model in float32 on the CPU, in eval mode."""

    @property
    def n_layers(self) -> int:
        """Number of blocks; layers are 0 to this."""
        return int(self.config.num_hidden_layers)

    @property
    def width(self) -> int:
        """D of every layer."""
        return int(self.config.hidden_size)

    @property
    def n_hop(self) -> int:
        """Samples from one frame to the next: 320 in all published models."""
        return int(np.prod(self.config.conv_stride))

    @cached_property
    def n_window(self) -> int:
        """Samples that one frame sees: 400 in all published models."""
        n_window = 1
        for kernel, stride in self._convolutions[::-1]:
            n_window = (n_window - 1) * stride + kernel
        return n_window

    @property
    def _convolutions(self) -> list[tuple[int, int]]:
        return list(zip(self.config.conv_kernel, self.config.conv_stride, strict=True))

    @property
    def frames_are_local(self) -> bool:
        """Whether a frame of the convolutions sees its window only, no statistics of the clip."""
        return bool(self.config.feat_extract_norm == "layer")

    @property
    def padding_changes_numbers(self) -> bool:
        """Whether padding would change rows, masked or not: then clips of one size only share a batch."""
        return not self.frames_are_local or bool(getattr(self.config, "conv_pos_batch_norm", False))

    @property
    def max_samples(self) -> int | None:
        """Longest clip in samples, None where memory grows with its length only and the front can be cut.

        WavLM's position bias is a square of frames for each head: 10 GB for two minutes. Models whose first
        convolution normalises over the whole clip need 1 GB a minute for it.
        """
        if self.config.model_type == "wavlm":
            return 120 * RATE_HZ
        return None if self.frames_are_local else 300 * RATE_HZ

    def n_frames(self, n_samples: int) -> int:
        """Return how many frames a waveform of `n_samples` gives, at least 0."""
        for kernel, stride in self._convolutions:
            n_samples = (n_samples - kernel) // stride + 1
        return max(n_samples, 0)


def open_model(name_or_dir: str) -> SpeechModel:
    """Find a model and read what its checkpoint says, without loading its weights.

    Raises
    ------
    UsageError
        It cannot be found, is of another kind, or wants another rate of samples.
    """
    if name_or_dir == TINY:
        tiny = tiny_hubert()
        return SpeechModel(
            TINY, tiny.weights, False, tiny.model.config, True, lambda: tiny_hubert().model
        )
    import transformers

    checkpoint = locate(name_or_dir)
    kind = checkpoint.config.get("model_type")
    if kind not in MODEL_CLASSES:
        raise UsageError(
            f"audio: model {name_or_dir}: expected model_type {', '.join(MODEL_CLASSES)}; got {kind!r}"
        )
    model_class = getattr(transformers, MODEL_CLASSES[kind])
    return SpeechModel(
        name=checkpoint.name,
        weights=weights_digest(checkpoint),
        trained=True,
        config=model_class.config_class.from_pretrained(checkpoint.folder, local_files_only=True),
        normalises=_normalises(checkpoint.folder),
        build=lambda: load_pretrained(model_class, checkpoint, torch.float32, NOT_NEEDED),
    )


def _normalises(folder: Path) -> bool:
    """Read what a checkpoint wants done to its samples; transformers' default where it does not say."""
    for name, key in (
        ("preprocessor_config.json", None),
        ("processor_config.json", "feature_extractor"),
    ):
        if not (folder / name).is_file():
            continue
        try:
            settings = json.loads((folder / name).read_text(encoding="utf-8"))
            settings = settings[key] if key else settings
            rate_hz, wants = (
                settings.get("sampling_rate", RATE_HZ),
                settings.get("do_normalize", True),
            )
        except (ValueError, KeyError, AttributeError) as error:
            raise UsageError(
                f"{folder / name}: expected the settings of a Wav2Vec2FeatureExtractor: {error!r}"
            ) from error
        if rate_hz != RATE_HZ:
            raise UsageError(f"{folder / name}: sampling_rate: expected {RATE_HZ}, got {rate_hz}")
        return bool(wants)
    return True
