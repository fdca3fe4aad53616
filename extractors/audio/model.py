"""A speech model: what its checkpoint says of it, and its hidden states for a batch of waveforms.

Shape letters: B waveforms in a batch, N samples and T frames of the longest, D width.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from extractors.audio.blocks import final_layer, first_states, frame_mask, run_blocks
from extractors.audio.waveform import RATE_HZ
from extractors.checkpoints import load_pretrained, locate, weights_digest
from extractors.contract import Floats
from extractors.tiny import TINY, tiny_hubert
from mer_store.errors import UsageError

MODEL_CLASSES = {"hubert": "HubertModel", "wav2vec2": "Wav2Vec2Model", "wavlm": "WavLMModel"}
#: Tensors that only training or a head on top uses.
NOT_NEEDED = ("masked_spec_embed", r"adapter\..*")
#: Samples of a batch that the convolutions see at once: bounds memory, changes nothing else.
FRONT_SAMPLES = 30 * RATE_HZ


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


class HiddenStates:
    """A loaded model on its device, giving the states of layers as they are computed.

    Half precision is by autocast: products in half precision, norms and the residual sum in float32. In
    float32 a GPU's TF32 is off.
    """

    def __init__(self, speech_model: SpeechModel, device: torch.device, dtype: torch.dtype) -> None:
        self._facts = speech_model
        self._device = device
        self._dtype = dtype
        self._model = speech_model.build().to(device).requires_grad_(requires_grad=False)

    @torch.inference_mode()
    def __call__(
        self, waveforms: Sequence[Floats], layers: Sequence[int]
    ) -> Iterator[tuple[int, Tensor, Tensor | None]]:
        """Yield ``(layer, states [B, T, D], real)`` for each of `layers`, ascending.

        No block above the last of them is run.

        Parameters
        ----------
        waveforms
            One [N] each, normalised; of one length where `SpeechModel.padding_changes_numbers`.
        layers
            Wanted, of 0 to `SpeechModel.n_layers`.

        Yields
        ------
        tuple
            `real` says which frames are no padding, bool [B, T]; it is None where none is.
        """
        encoder, highest = self._model.encoder, max(layers)
        with self._arithmetic():
            samples, real = self._pad(waveforms)
            states = first_states(encoder, self._front(samples), real)
            if 0 in layers:
                yield 0, states, real
            outputs = run_blocks(encoder.layers[:highest], encoder.config, states, real)
            for layer, states in enumerate(outputs, start=1):
                if layer in layers:
                    is_last = layer == self._facts.n_layers
                    yield layer, final_layer(encoder, states) if is_last else states, real

    def _arithmetic(self) -> AbstractContextManager[Any]:
        if self._dtype != torch.float32:
            return torch.autocast(self._device.type, dtype=self._dtype)
        if self._device.type == "cuda":
            return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        return nullcontext()

    def _pad(self, waveforms: Sequence[Floats]) -> tuple[Tensor, Tensor | None]:
        """Return samples [B, N], filled up with zeros, and which frames are real."""
        longest = max(map(len, waveforms))
        samples = np.zeros((len(waveforms), longest), np.float32)
        for row, waveform in zip(samples, waveforms, strict=True):
            row[: len(waveform)] = waveform
        n_frames = [self._facts.n_frames(len(waveform)) for waveform in waveforms]
        real = None
        if min(n_frames) < max(n_frames):
            real = frame_mask(torch.tensor(n_frames), max(n_frames)).to(self._device)
        return torch.from_numpy(samples).to(self._device), real

    def _front(self, samples: Tensor) -> Tensor:
        """Return projected acoustic features [B, T, D], piece by piece where that is exact."""
        if not self._facts.frames_are_local:
            return self._project(samples)
        n_frames = self._facts.n_frames(samples.shape[1])
        n_hop, n_window = self._facts.n_hop, self._facts.n_window
        n_piece = max(1, FRONT_SAMPLES // (n_hop * len(samples)))
        pieces = [
            self._project(samples[:, start * n_hop : (start + n_piece - 1) * n_hop + n_window])
            for start in range(0, n_frames, n_piece)
        ]
        return torch.cat(pieces, dim=1) if len(pieces) > 1 else pieces[0]

    def _project(self, samples: Tensor) -> Tensor:
        features = self._model.feature_extractor(samples).transpose(1, 2)
        projected = self._model.feature_projection(features)
        # float32, so that the sum that runs through all blocks stays in it under autocast
        return (projected if isinstance(projected, Tensor) else projected[0]).float()
