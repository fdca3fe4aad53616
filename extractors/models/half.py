"""Half precision: what of a model is held in it, and what is not."""

import torch
from torch import nn
from torch.nn.utils import parametrize

_PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d)


def hold_products(model: nn.Module, dtype: torch.dtype) -> None:
    """Hold the weights of matrix products and convolutions in `dtype`; norms and embeddings stay float32.

    Autocast rounds these weights at every use. Held rounded they give the same numbers bit for bit, in half
    the memory, and are not rounded anew for each batch. In float32 nothing is rounded.
    """
    for module in model.modules():
        if not isinstance(module, _PRODUCTS):
            continue
        if parametrize.is_parametrized(module, "weight"):  # a weight norm, worked out once
            parametrize.remove_parametrizations(module, "weight")
        module.requires_grad_(requires_grad=False)
        if dtype != torch.float32:
            module.to(dtype)
