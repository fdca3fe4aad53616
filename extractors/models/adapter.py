"""Adapters in the upper blocks of a frozen speech model, run from the cached states of the layer below them.

Zhao et al. (MRAC '24): y = x + ReLU(W_up ReLU(W_down x + b_down) + b_up), one in each of HuBERT's blocks
16 to 21. What lies below those blocks never changes, so layer 15 is read from a cache.

Shape letters: B clips in a batch, T frames of the longest, L layers, D width.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from extractors.models.blocks import attention_mask
from extractors.models.speech import SpeechModel
from mer_store.errors import UsageError

Placement = Literal["output", "attention", "feed_forward"]
"""Where in its block an adapter sits: on the block's output, or on that of its self-attention or feed-forward
part, before the residual sum. The paper does not say; the first is our default."""
BOTTLENECK = 128
#: Of W_up at the start. With zeros the outer ReLU would pass no gradient, ever.
UP_STD = 1e-2
KINDS = ("hubert", "wav2vec2")


class Adapter(nn.Module):
    """y = x + ReLU(W_up ReLU(W_down x + b_down) + b_up)."""

    def __init__(
        self, width: int, bottleneck: int, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.down = nn.Linear(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)
        with torch.no_grad():
            bound = width**-0.5
            self.down.weight.uniform_(-bound, bound, generator=generator)
            self.up.weight.normal_(0.0, UP_STD, generator=generator)
            self.down.bias.zero_()
            self.up.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        return x + F.relu(self.up(F.relu(self.down(x))))


@dataclass(frozen=True)
class FrozenBlocks:
    """Neighbouring blocks of a speech model, never trained; several sets of adapters may share them."""

    first: int
    """The layer they start from."""
    blocks: tuple[nn.Module, ...]
    config: Any
    final_norm: nn.Module | None
    """Of the model's last layer, where they reach it and it is normed."""

    @property
    def last(self) -> int:
        """The highest layer they give."""
        return self.first + len(self.blocks)

    @classmethod
    def of(cls, model: Any, first: int, last: int) -> "FrozenBlocks":
        """Take the blocks first + 1 to last of a transformers model, in eval mode and frozen.

        Raises
        ------
        UsageError
            The model has no such blocks, or is of a kind whose blocks depend on the first one.
        """
        config, encoder = model.config, model.encoder
        if config.model_type not in KINDS:
            raise UsageError(
                f"adapters: expected a model of type {' or '.join(KINDS)}; got {config.model_type!r}, whose "
                f"blocks need a position bias that no cache holds"
            )
        if not 0 <= first < last <= config.num_hidden_layers:
            raise UsageError(
                f"adapters: layers {first + 1}-{last} from layer {first}: the model has blocks 1 to "
                f"{config.num_hidden_layers}"
            )
        normed = last == config.num_hidden_layers and config.do_stable_layer_norm
        model.eval().requires_grad_(requires_grad=False)
        blocks = tuple(encoder.layers[first:last])
        return cls(first, blocks, config, encoder.layer_norm if normed else None)

    def to(self, device: torch.device) -> "FrozenBlocks":
        """Move them."""
        for module in (*self.blocks, *([self.final_norm] if self.final_norm else [])):
            module.to(device)
        return self


def load_blocks(model: SpeechModel, first: int, last: int) -> FrozenBlocks:
    """Load a model and keep of it what runs from layer `first` to layer `last`; see `FrozenBlocks.of`."""
    return FrozenBlocks.of(model.build(), first, last)


class AdaptedBlocks(nn.Module):
    """Frozen blocks with an adapter at each of `layers`. Its parameters are those of the adapters.

    Parameters
    ----------
    frozen
        They must reach the highest of `layers`.
    layers
        Where the adapters are, and what is given.
    """

    def __init__(
        self,
        frozen: FrozenBlocks,
        layers: Sequence[int],
        placement: Placement = "output",
        bottleneck: int = BOTTLENECK,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not layers or not frozen.first < min(layers) <= max(layers) <= frozen.last:
            raise UsageError(
                f"adapters: expected layers from {frozen.first + 1} to {frozen.last}; got {list(layers)}"
            )
        self.frozen = frozen
        self.layers = tuple(sorted(layers))
        self.placement = placement
        self.adapters = nn.ModuleDict(
            {str(n): Adapter(frozen.config.hidden_size, bottleneck, generator) for n in self.layers}
        )

    def forward(self, states: Tensor, real: Tensor | None = None) -> dict[int, Tensor]:
        """Return each layer's adapted states [B, T, D].

        Parameters
        ----------
        states
            Of layer ``frozen.first`` [B, T, D]; padded frames may hold anything finite.
        real
            Which frames are real, bool [B, T]; None where nothing is padded.
        """
        given: dict[int, Tensor] = {}
        attention = attention_mask(self.frozen.config, states, real)
        for layer, block in enumerate(self.frozen.blocks, start=self.frozen.first + 1):
            if layer > max(self.layers):
                break
            with self._inside(layer, block):
                states = block(states, attention_mask=attention)
            if layer in self.layers:
                if self.placement == "output":
                    states = self.adapters[str(layer)](states)
                given[layer] = states
        if self.frozen.final_norm is not None and self.frozen.last in given:
            given[self.frozen.last] = self.frozen.final_norm(given[self.frozen.last])
        return given

    @contextmanager
    def _inside(self, layer: int, block: Any) -> Iterator[None]:
        """Let a block run with its adapter inside, where it belongs there."""
        with ExitStack() as stack:
            if layer in self.layers and self.placement != "output":
                adapter = self.adapters[str(layer)]
                part = block.attention if self.placement == "attention" else block.feed_forward

                def adapt(module: nn.Module, inputs: Any, output: Any) -> Any:  # noqa: ARG001
                    if isinstance(output, tuple):
                        return (adapter(output[0]), *output[1:])
                    return adapter(output)

                stack.callback(part.register_forward_hook(adapt).remove)
            yield


class OutputAdapters(nn.Module):
    """The lighter variant: an adapter on each layer's pooled output, no block is run."""

    def __init__(
        self, width: int, layers: Sequence[int], bottleneck: int = BOTTLENECK,
        generator: torch.Generator | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.layers = tuple(layers)
        self.adapters = nn.ModuleDict(
            {str(n): Adapter(width, bottleneck, generator) for n in layers}
        )

    def forward(self, pooled: Tensor) -> Tensor:
        """[B, L, D] -> [B, L, D]."""
        each = zip(self.adapters.values(), pooled.unbind(dim=1), strict=True)
        return torch.stack([adapter(x) for adapter, x in each], dim=1)


def pool(states: Tensor, real: Tensor | None) -> Tensor:
    """Return the mean over real frames of states [B, T, D], in float32: [B, D]."""
    if real is None:
        return states.float().mean(dim=1)
    total = states.float().masked_fill(~real[..., None], 0).sum(dim=1)
    return total / real.sum(dim=1, keepdim=True)


def fuse(weight: Tensor, pooled: Tensor) -> Tensor:
    """Return sum w_i f_i of weights [L] and layers [B, L, D]: [B, D] (Zhao et al.), in float32 always."""
    return (weight[:, None] * pooled).sum(dim=1)
