"""Hidden states of any encoder or decoder of transformers, as published work means them.

0 is the input of the first block, i the raw output of block i, and the last one is the model's
``last_hidden_state``: after the final norm where the model has one. transformers' own tuple changed
that meaning between versions 4 and 5 for some models, so the blocks are read here.

Shape letters: B clips, T tokens, D width.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn


class LanguageModel(Protocol):
    """A model as the extractor calls it."""

    def __call__(
        self, token_ids: Tensor, n_tokens: Tensor, layers: Sequence[int]
    ) -> dict[int, Tensor]:
        """Return [B, T, D] per wanted layer.

        Parameters
        ----------
        token_ids
            [B, T], padding to the right of the tokens.
        n_tokens
            [B], how many of each row are tokens.
        layers
            The hidden states wanted.
        """


class TransformersModel:
    """A transformers model whose blocks are tapped: only what is wanted is run and kept."""

    def __init__(self, model: nn.Module, n_layers: int) -> None:
        self.model = model.eval().requires_grad_(requires_grad=False)
        self.n_layers = n_layers
        self.blocks = find_blocks(model, n_layers)

    def __call__(
        self, token_ids: Tensor, n_tokens: Tensor, layers: Sequence[int]
    ) -> dict[int, Tensor]:
        """See `LanguageModel`."""
        position = torch.arange(token_ids.shape[1], device=token_ids.device)
        inputs = {
            "input_ids": token_ids,
            "attention_mask": (position < n_tokens[:, None]).long(),
        }
        if self.blocks is None:
            return self._run_whole(inputs, layers)
        with tapped(self.blocks, layers) as kept:
            try:
                output = self.model(**inputs)
            except _ReachedHighestError:
                return kept
        if self.n_layers in layers:
            kept[self.n_layers] = output.last_hidden_state
        return kept

    def _run_whole(self, inputs: dict[str, Tensor], layers: Sequence[int]) -> dict[int, Tensor]:
        """Serve models without one module per block (ALBERT shares one between all)."""
        output = self.model(**inputs, output_hidden_states=True)
        states = (*output.hidden_states[:-1], output.last_hidden_state)
        return {layer: states[layer] for layer in layers}


def find_blocks(model: nn.Module, n_layers: int) -> nn.ModuleList | None:
    """Return the outermost list with one module per layer, or None where there is none."""
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == n_layers:
            return module
    return None


class _ReachedHighestError(Exception):
    """Ends a forward pass after the highest block wanted."""


@contextmanager
def tapped(blocks: nn.ModuleList, layers: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """Give a dict that a forward pass fills with the wanted states below the last one."""
    kept: dict[int, Tensor] = {}
    highest = max(layers)

    def keep(layer: int, state: Tensor) -> None:
        kept[layer] = state
        if layer == highest:
            raise _ReachedHighestError

    handles = []
    if 0 in layers:
        handles.append(blocks[0].register_forward_pre_hook(_input_to(keep), with_kwargs=True))
    handles += [
        blocks[layer - 1].register_forward_hook(_output_to(keep, layer))
        for layer in layers
        if 0 < layer < len(blocks)
    ]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def _input_to(keep: Callable[[int, Tensor], None]) -> Callable[..., None]:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        keep(0, cast("Tensor", args[0] if args else kwargs["hidden_states"]))

    return hook


def _output_to(keep: Callable[[int, Tensor], None], layer: int) -> Callable[..., None]:
    def hook(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        keep(layer, cast("Tensor", output[0] if isinstance(output, tuple) else output))

    return hook
