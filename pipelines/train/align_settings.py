"""Settings of the alignment trainer."""

from dataclasses import dataclass, field

from pipelines.train.align_model import MAX_SCALE
from pipelines.train.choices import FeatureChoice, require

MIN_BATCH = 4


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The paper's values; what it leaves open is said. There are no labels, so no folds."""

    name: str = ""
    """Goes into the run's folder name."""
    seed: int = 0
    visual: FeatureChoice = field(default_factory=lambda: FeatureChoice(layers="embed"))
    """What is aligned; the mean of its layers where there are several."""
    audio: FeatureChoice = field(
        default_factory=lambda: FeatureChoice(recipe="adapter", layers="fused")
    )
    """What it is aligned with; the mean of its layers where there are several."""
    labelled_too: bool = False
    """Train on labelled clips as well. Their labels are never looked at."""
    held_out: float = 0.05
    """Share of the pairs that recall is measured on, at most 2,000. They are not trained on."""
    standardise: bool = True
    """Both sides to mean 0 and variance 1 over the pairs trained on. Open in the paper."""
    hidden: int = 0
    """Width between W2 and W1; 0 is the audio's width. Open in the paper."""
    temperature_start: float = 0.07
    """Learned from here on; CLIP's value. Open in the paper."""
    epochs: int = 50
    """Open in the paper."""
    batch: int = 1024
    lr: float = 1e-4
    weight_decay: float = 0.0
    """Of the MLP, never of the temperature. Open in the paper."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        require(0 < self.held_out <= 0.5, "held_out", "above 0, up to 0.5", self.held_out)
        require(self.epochs >= 1, "epochs", "1 or more", self.epochs)
        require(self.batch >= MIN_BATCH, "batch", f"{MIN_BATCH} or more", self.batch)
        require(self.hidden >= 0, "hidden", "0 or more", self.hidden)
        warm = self.temperature_start >= 1 / MAX_SCALE
        require(warm, "temperature_start", f"{1 / MAX_SCALE} or more", self.temperature_start)
