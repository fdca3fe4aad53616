"""Named ways of computing audio features."""

from dataclasses import dataclass
from typing import Any

from extractors.audio.waveform import SILENCE_PEAK
from extractors.models.speech import RATE_HZ
from mer_store.errors import UsageError
from mer_store.layers import Layer


@dataclass(frozen=True)
class Recipe:
    """What differs between ways of computing."""

    n_last: int | None = None
    """Offer only the sum of this many last layers; None offers every layer."""
    n_chunk: int | None = None
    """Clips longer than this many samples are cut into chunks of it, the last filled with zeros; the model
    sees the chunks apart, and frames of the filling count as real ones."""
    refuses_silence: bool = True
    published_dtype: str | None = None
    """Arithmetic of the published features, used where none is asked for."""

    def parts(self, n_layers: int) -> dict[Layer, tuple[int, ...]]:
        """Return each layer offered by `n_layers` blocks, and the model's layers summed to make it."""
        every = range(n_layers + 1)
        if self.n_last is None:
            return {layer: (layer,) for layer in every}
        summed = tuple(every[-self.n_last :])
        return {summed[0] if len(summed) == 1 else f"last{self.n_last}sum": summed}

    def preprocessing(self) -> dict[str, Any]:
        """Return the spec's words for what this recipe does to the samples."""
        return {
            "silence": f"empty below a peak of {SILENCE_PEAK}" if self.refuses_silence else "kept",
            "chunks": "none"
            if self.n_chunk is None
            else f"over {self.n_chunk / RATE_HZ:g} s: filled with zeros to a multiple of it, unmasked",
        }


RECIPES = {
    "default": Recipe(),
    # The features that MERTools' users train with, for the same numbers.
    "mertools2024": Recipe(
        n_last=4,
        n_chunk=160_000,
        refuses_silence=False,
        published_dtype="float32",
    ),
    "mertools2023": Recipe(
        n_last=1, n_chunk=160_000, refuses_silence=False, published_dtype="float32"
    ),
}


def recipe_named(name: str) -> Recipe:
    """Return a recipe, or say which there are."""
    if name not in RECIPES:
        raise UsageError(f"audio: recipe {name!r}: expected one of {', '.join(RECIPES)}")
    return RECIPES[name]


def default_layers(offered: tuple[Layer, ...], n_layers: int) -> tuple[Layer, ...]:
    """Return layers 16-21 of a model with 24 blocks, those of the same depth of any other."""
    first, last = round(n_layers * 2 / 3), n_layers * 7 // 8
    middle = tuple(layer for layer in offered if isinstance(layer, int) and first <= layer <= last)
    return middle or offered
