"""Random search: draws from a grid, as in the official baseline's protocol of 50 draws."""

from dataclasses import dataclass

from pipelines.train.choices import require
from pipelines.train.fusion_stack import Variant
from pipelines.train.streams import numpy_stream


@dataclass(frozen=True)
class SearchSettings:
    """How many models are tried, and what they are drawn from."""

    draws: int = 0
    """0 searches for nothing; the baseline's protocol is 50, then 6 repeats of the best."""
    hidden: tuple[int, ...] = (64, 128, 256)
    dropout: tuple[float, ...] = (0.2, 0.3, 0.4, 0.5)
    lr: tuple[float, ...] = (1e-3, 1e-4)

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        require(self.draws >= 0, "search.draws", "0 or more", self.draws)
        some = min(len(self.hidden), len(self.dropout), len(self.lr)) > 0
        require(some, "search", "one or more values of hidden, dropout and lr", "none")


def draw_variants(search: SearchSettings, seed: int) -> list[Variant]:
    """Draw models, each setting on its own, as the baseline does: two draws may be alike."""
    numbers = numpy_stream(seed, "search")
    return [
        Variant(
            hidden=search.hidden[numbers.integers(len(search.hidden))],
            dropout=search.dropout[numbers.integers(len(search.dropout))],
            lr=search.lr[numbers.integers(len(search.lr))],
        )
        for _ in range(search.draws)
    ]
