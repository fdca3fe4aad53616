"""The convolutions that turn samples into frames, run as matrix products over windows.

Shape letters: B waveforms in a batch, N samples, T frames, C channels, K samples or frames of a window.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class WindowedFront(nn.Module):
    """A model's convolutions with a layer norm after each, frame after frame in memory.

    Norms want the channels of a frame side by side, transformers' convolutions want them apart: there every
    layer is turned round twice. Here a window is a run of K · C neighbouring numbers, and a convolution the
    product of windows with its weights. The same numbers to rounding (1e-6), in two thirds of the time.

    Parameters
    ----------
    extractor
        The ``feature_extractor`` of a model whose ``feat_extract_norm`` is ``layer``.
    """

    def __init__(self, extractor: nn.Module) -> None:
        super().__init__()
        modules: Any = extractor
        self.layers = nn.ModuleList(_Layer(layer) for layer in modules.conv_layers)

    def forward(self, samples: Tensor) -> Tensor:
        """Map samples [B, N] to features [B, T, C]."""
        frames = samples[..., None]
        for layer in self.layers:
            frames = layer(frames)
        return frames


class _Layer(nn.Module):
    def __init__(self, layer: Any) -> None:
        super().__init__()
        weight = layer.conv.weight.detach()  # [C out, C in, K]
        self.n_window, self.n_hop = int(layer.conv.kernel_size[0]), int(layer.conv.stride[0])
        self.weight = nn.Parameter(weight.transpose(1, 2).flatten(1), requires_grad=False)
        self.bias = layer.conv.bias
        self.layer_norm, self.activation = layer.layer_norm, layer.activation

    def forward(self, frames: Tensor) -> Tensor:
        """[B, T, C] -> [B, T', C']."""
        frames = frames.to(self.weight.dtype).contiguous()
        B, T, C = frames.shape
        n_out = (T - self.n_window) // self.n_hop + 1
        shape = (B, n_out, self.n_window * C)
        windows = torch.as_strided(frames, shape, (T * C, self.n_hop * C, 1))
        out: Tensor = self.activation(self.layer_norm(F.linear(windows, self.weight, self.bias)))
        return out
