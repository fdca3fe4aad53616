"""A speech model's hidden states for a batch of waveforms.

Shape letters: B waveforms in a batch, N samples and T frames of the longest, D width.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from extractors.audio.front import WindowedFront
from extractors.contract import Floats
from extractors.models.blocks import final_layer, first_states, run_blocks
from extractors.models.copies import host_zeros, to_device
from extractors.models.devices import arithmetic
from extractors.models.half import hold_products
from extractors.models.padding import Padding
from extractors.models.speech import RATE_HZ, SpeechModel

#: Samples of a batch that the convolutions see at once: bounds memory, changes nothing else.
FRONT_SAMPLES = 30 * RATE_HZ


class HiddenStates:
    """A loaded model on its device, giving the states of layers as they are computed.

    Half precision is by autocast over weights held in it: products in half precision, norms and the residual
    sum in float32. In float32 a GPU's TF32 is off.
    """

    def __init__(self, speech_model: SpeechModel, device: torch.device, dtype: torch.dtype) -> None:
        self._facts = speech_model
        self._device = device
        self._dtype = dtype
        model = speech_model.build()
        hold_products(model, dtype)
        if speech_model.frames_are_local:
            model.feature_extractor = WindowedFront(model.feature_extractor)
        self._model = model.to(device).requires_grad_(requires_grad=False)

    def __call__(
        self, waveforms: Sequence[Floats], layers: Sequence[int]
    ) -> Iterator[tuple[int, Tensor, Padding]]:
        """Yield ``(layer, states [B, T, D], padding)`` for each of `layers`, ascending.

        No block above the last of them is run. To be called in inference mode, which a generator cannot enter
        itself: leaving it at each yield would switch autocast off for the blocks that follow.

        Parameters
        ----------
        waveforms
            One [N] each, normalised; of one length where `SpeechModel.padding_changes_numbers`.
        layers
            Wanted, of 0 to `SpeechModel.n_layers`.
        """
        encoder = self._model.encoder
        lengths = [self._facts.n_frames(len(waveform)) for waveform in waveforms]
        padding = Padding.of(lengths, self._device)
        with arithmetic(self._device, self._dtype):
            projected = self._front(self._pad(waveforms))
            states = first_states(encoder, projected, padding.real)
        if 0 in layers:
            yield 0, states, padding
        outputs = run_blocks(encoder.layers[: max(layers)], encoder.config, states, padding.real)
        for layer in range(1, max(layers) + 1):
            with arithmetic(self._device, self._dtype):
                states = next(outputs)
                if layer == self._facts.n_layers:
                    states = final_layer(encoder, states)
            if layer in layers:
                yield layer, states, padding

    def _pad(self, waveforms: Sequence[Floats]) -> Tensor:
        """Return samples [B, N], filled up with zeros."""
        shape = len(waveforms), max(map(len, waveforms))
        samples = host_zeros(shape, torch.float32, self._device)
        for row, waveform in zip(samples.numpy(), waveforms, strict=True):
            row[: len(waveform)] = waveform
        return to_device(samples, self._device)

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
        features = self._model.feature_extractor(samples)
        if not self._facts.frames_are_local:
            features = features.transpose(1, 2)
        projected = self._model.feature_projection(features)
        # float32, so that the sum that runs through all blocks stays in it under autocast
        return (projected if isinstance(projected, Tensor) else projected[0]).float()
