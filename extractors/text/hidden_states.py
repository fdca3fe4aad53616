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

from mer_store.errors import UsageError


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
    """A transformers model whose blocks are tapped: only what is wanted is run and kept.

    Where the taps do not give the model's own hidden states (blocks shared, transposed or padded
    inside), the model is run whole and its own are taken.

    Raises
    ------
    UsageError
        The model gives no hidden state per block.
    """

    def __init__(self, model: Any, n_layers: int) -> None:
        model.config.use_cache = False  # of keys and values, for generating text
        self.model = model.eval().requires_grad_(requires_grad=False)
        self.n_layers = n_layers
        self.blocks = find_blocks(model, n_layers)
        if not self._taps_agree():
            self.blocks = None

    @torch.inference_mode()
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
        output = self.model(**inputs, output_hidden_states=True)
        states = (*(output.hidden_states or ())[:-1], output.last_hidden_state)
        if len(states) != self.n_layers + 1:
            raise UsageError(
                f"model {type(self.model).__name__}: expected {self.n_layers + 1} hidden states, "
                f"got {len(states)}; give another model"
            )
        return {layer: states[layer] for layer in layers}

    def _taps_agree(self) -> bool:
        """Compare, on two texts of three tokens, what the taps give with the model's own tuple."""
        device = next(self.model.parameters()).device
        ids = torch.arange(6, device=device).view(2, 3)
        n_tokens, layers = torch.tensor([3, 3], device=device), range(self.n_layers + 1)
        tapped_states = self(ids, n_tokens, layers)
        whole = self._run_whole({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, layers)
        return all(
            layer in tapped_states
            and tapped_states[layer].shape == whole[layer].shape
            and torch.allclose(tapped_states[layer], whole[layer], rtol=1e-3, atol=1e-5)
            for layer in layers
        )


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
