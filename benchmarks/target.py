"""A measured figure and the target beside it. `run_all.py` gathers them into one table."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

#: Where `run_all.py` has figures gathered: a file of one JSON object a line.
GATHERED = "MER_STORE_BENCH_LINES"


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    what: str
    value: float
    target: float
    at_least: bool
    """Whether the target is the least that is wanted, or the most."""
    unit: str = ""
    why: str = ""
    """What a miss is known to come from."""

    @property
    def missed_by(self) -> float:
        """How far off the target it is, as a share of the target, of 1 where that is 0; 0 where it is met."""
        short = self.target - self.value if self.at_least else self.value - self.target
        return max(short, 0.0) / (self.target or 1.0)

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        text = (
            f"{self.what}: {_number(self.value)}{self.unit} (target {sign} {_number(self.target)})"
        )
        if not self.missed_by:
            return text
        return f"{text} MISSED by {self.missed_by:.0%}" + (f": {self.why}" if self.why else "")


def at_least(what: str, value: float, target: float, unit: str = "", why: str = "") -> None:
    """Print a figure that should not be below its target."""
    _tell(Figure(what, value, target, True, unit, why))


def at_most(what: str, value: float, target: float, unit: str = "", why: str = "") -> None:
    """Print a figure that should not be above its target."""
    _tell(Figure(what, value, target, False, unit, why))


def gathered(path: Path) -> list[Figure]:
    """Return the figures that benchmarks left in a file."""
    return [Figure(**json.loads(line)) for line in path.read_text().splitlines()]


def _tell(figure: Figure) -> None:
    print(f"  {figure}", flush=True)
    if path := os.environ.get(GATHERED):
        with Path(path).open("a") as file:
            file.write(json.dumps(asdict(figure)) + "\n")


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
