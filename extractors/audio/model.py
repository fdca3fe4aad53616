"""A speech model's hidden states for a batch of waveforms.

Shape letters: B waveforms in a batch, N samples and T frames of the longest, D width.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from extractors.contract import Floats
from extractors.models.blocks import final_layer, first_states, frame_mask, run_blocks
from extractors.models.devices import arithmetic
from extractors.models.speech import RATE_HZ, SpeechModel

#: Samples of a batch that the convolutions see at once: bounds memory, changes nothing else.
FRONT_SAMPLES = 30 * RATE_HZ


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
        with arithmetic(self._device, self._dtype):
            samples, real = self._pad(waveforms)
            states = first_states(encoder, self._front(samples), real)
            if 0 in layers:
                yield 0, states, real
            outputs = run_blocks(encoder.layers[:highest], encoder.config, states, real)
            for layer, states in enumerate(outputs, start=1):
                if layer in layers:
                    is_last = layer == self._facts.n_layers
                    yield layer, final_layer(encoder, states) if is_last else states, real

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
