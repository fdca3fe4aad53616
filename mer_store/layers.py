"""Layers of a model and the way people write them: ``16-21``, ``18,20``, ``all``, ``last4``, ``embed``."""

import re
from collections.abc import Iterable, Sequence

from mer_store.errors import UsageError

#: Index into the model's hidden states (0 is the input of the first block, i the output of block i),
#: or the name of an output that is no hidden state: ``embed``, or a recipe's own sum such as ``last4sum``.
Layer = int | str

_RANGE = re.compile(r"(\d+)-(\d+)")
_LAST = re.compile(r"last(\d+)")


def parse_layers(text: str, available: Sequence[Layer]) -> tuple[Layer, ...]:
    """Read a list of layers as written on a command line.

    Parameters
    ----------
    text
        Comma-separated: a number, a range with both ends (``16-21``), ``last4``, ``all`` (every hidden
        state), or a name in `available`.
    available
        What the model offers, in order.

    Returns
    -------
    tuple
        Without repetition, numbers in ascending order before names.

    Raises
    ------
    UsageError
        The text cannot be read or names a layer the model does not have.
    """
    numbers = [layer for layer in available if isinstance(layer, int)]
    chosen: list[Layer] = []
    for word in (piece.strip() for piece in text.split(",")):
        if word == "all":
            chosen += numbers or list(available)
        elif span := _RANGE.fullmatch(word):
            first, last = int(span[1]), int(span[2])
            if first > last:
                raise UsageError(
                    f"layers {word!r}: the first is above the last; write {last}-{first}"
                )
            chosen += range(first, last + 1)
        elif tail := _LAST.fullmatch(word):
            n_last = int(tail[1])
            if not 1 <= n_last <= len(numbers):
                raise UsageError(f"layers {word!r}: the model has {describe_layers(available)}")
            chosen += numbers[-n_last:]
        elif word.isdecimal():
            chosen.append(int(word))
        elif word:
            chosen.append(word)
        else:
            raise UsageError(
                f"layers {text!r}: empty entry; write for example 16-21 or 18,20 or all"
            )
    if unknown := [layer for layer in chosen if layer not in available]:
        named = ", ".join(map(str, dict.fromkeys(unknown)))
        raise UsageError(
            f"layers {text!r}: no layer {named}; the model has {describe_layers(available)}"
        )
    return sort_layers(chosen)


def sort_layers(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """Return the distinct layers, numbers ascending before names."""
    return tuple(sorted(set(layers), key=lambda layer: (isinstance(layer, str), layer)))


def layer_from_name(name: str) -> Layer:
    """Turn an array's name back into its layer: ``"18"`` is 18, ``"embed"`` stays."""
    return int(name) if name.isdecimal() else name


def describe_layers(layers: Iterable[Layer]) -> str:
    """Write layers as short as they can be read: ``0-24``, ``15, 18-21, embed``."""
    runs: list[list[int]] = []
    names: list[str] = []
    for layer in sort_layers(layers):
        if isinstance(layer, str):
            names.append(layer)
        elif runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    words = [f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    return ", ".join(words + names) or "none"
