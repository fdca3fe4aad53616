"""How a planted corpus is made."""

from dataclasses import dataclass

from mer_store.errors import UsageError
from mer_store.layers import Layer
from pipelines.planted.signal import K_LATENT, View, ViewName

FIRST, BEST = 15, 18


@dataclass(frozen=True)
class PlantedSettings:
    """Sizes and strengths. The defaults make a corpus for a demo: seconds to write, minutes to train on."""

    seed: int = 0
    n_labelled: int = 600
    n_unlabelled: int = 12000
    n_test: int = 1000
    """Of the unlabelled."""
    show_test_labels: bool = False
    audio_width: int = 32
    """32 is that of the tiny HuBERT, whose blocks the adapters are trained in."""
    visual_width: int = 48
    text_width: int = 64
    audio_layers: tuple[int, ...] = tuple(range(FIRST, 25))
    best_layer: int = BEST
    """Layer of audio that shows the most."""
    frames: bool = True
    """Also write frames of layer 15, for adapters: the time mean shows as much as the best layer."""
    n_frames: tuple[int, int] = (20, 60)
    """Fewest and most frames of a clip."""
    summed: bool = True
    """Also write the baseline's recipe: the sum of the last four layers of audio."""
    text_layers: tuple[int, ...] = (37, 38, 39, 40)
    no_face: float = 0.08
    no_speech: float = 0.03
    no_text: float = 0.05
    separation: float = 2.0
    tau: float = 0.5
    nuisance: float = 1.0
    """Standard deviation of what audio and text features hold besides."""
    visual_nuisance: float = 3.0
    """The same of visual features: who it is, light, pose."""
    grain: float = 0.2
    """Standard deviation of noise in all directions but the signal's."""
    part_clips: int = 16384

    def __post_init__(self) -> None:
        """Refuse what no corpus can be made of."""
        if self.n_test > self.n_unlabelled:
            raise UsageError(
                f"planted: n_test: expected at most the {self.n_unlabelled} unlabelled clips, "
                f"got {self.n_test}"
            )
        if self.frames and self.best_layer not in self.audio_layers:
            raise UsageError(
                f"planted: best_layer: expected one of {self.audio_layers}, got {self.best_layer}; "
                f"frames are made of it, so choose another or set frames to False"
            )
        for modality in ("audio", "visual", "text"):
            if self.width(modality) < K_LATENT:
                raise UsageError(
                    f"planted: {modality}_width: expected at least {K_LATENT}, the dimensions of "
                    f"the signal, got {self.width(modality)}"
                )

    def views(self) -> dict[ViewName, View]:
        """Return how clearly each layer of each modality shows the latent."""
        views: dict[ViewName, View] = {("visual", "embed"): View(1.0, 1.15)}
        for layer in self.audio_layers:
            views["audio", layer] = View(0.78 ** abs(layer - self.best_layer), 0.95)
        for layer in self.text_layers:
            views["text", layer] = View(1.0, 1.25)
        return views

    def width(self, modality: str) -> int:
        """Return D of a modality."""
        width: int = getattr(self, f"{modality}_width")
        return width

    def layers(self, modality: str) -> tuple[Layer, ...]:
        """Return the layers of a modality."""
        if modality == "visual":
            return ("embed",)
        return self.audio_layers if modality == "audio" else self.text_layers
