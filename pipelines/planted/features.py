"""From what a planted clip shows to its features: the signal t in some directions, nuisance in others."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mer_store.layers import Layer
from pipelines.planted.corpus import PlantedCorpus
from pipelines.planted.settings import PlantedSettings
from pipelines.planted.signal import K_LATENT, Floats, ViewName

Features = NDArray[np.float32]

#: Clips drawn at once. Random streams are keyed by block, so that the size of parts changes no number.
BLOCK = 1024


@dataclass(frozen=True)
class Projection:
    """How a modality's t becomes features of width D."""

    basis: Floats
    """B [k, D], orthonormal rows."""
    nuisance: Floats
    """[k_n, D]: rows orthogonal to B, scaled by the nuisance's standard deviation."""
    grain: float
    """Standard deviation of noise in every direction of x that is orthogonal to B."""

    @classmethod
    def draw(
        cls, width: int, nuisance_std: float, grain: float, rng: np.random.Generator
    ) -> "Projection":
        """Draw one; what the width leaves room for beside B is nuisance, at most 2 k dimensions."""
        n_rows = min(width, 3 * K_LATENT)
        columns, _ = np.linalg.qr(rng.standard_normal((width, n_rows)))
        rows = columns.T
        return cls(rows[:K_LATENT], nuisance_std * rows[K_LATENT:], grain)

    def features(self, shown: Floats, rng: np.random.Generator) -> Features:
        """Return x [n, D] of t [n, k], so that x B^T = t."""
        basis, nuisance = self.basis.astype(np.float32), self.nuisance.astype(np.float32)
        x = rng.standard_normal((len(shown), basis.shape[1]), dtype=np.float32)
        x *= np.float32(self.grain)
        x += (shown.astype(np.float32) - x @ basis.T) @ basis
        x += rng.standard_normal((len(shown), len(nuisance)), dtype=np.float32) @ nuisance
        return x

    def shown(self, features: NDArray[np.floating]) -> Floats:
        """Return the sufficient statistic t [n, k] of features [n, D]."""
        shown: Floats = features.astype(np.float64) @ self.basis.T
        return shown


def projection(settings: PlantedSettings, modality: str) -> Projection:
    """Return the projection that all layers of a modality share."""
    nuisance = settings.visual_nuisance if modality == "visual" else settings.nuisance
    rng = np.random.default_rng([settings.seed, *modality.encode()])
    return Projection.draw(settings.width(modality), nuisance, settings.grain, rng)


def features_of(
    corpus: PlantedCorpus, modality: str, views: Mapping[Layer, list[ViewName]], clips: range
) -> Iterator[dict[Layer, Features]]:
    """Yield, clip by clip, the rows [1, D] of each layer; a layer of several views is their sum.

    Clips that lack the modality get rows too: of a t of zero.
    """
    through = projection(corpus.settings, modality)
    for number in range(clips.start // BLOCK, -(-clips.stop // BLOCK)):
        start, stop = number * BLOCK, min((number + 1) * BLOCK, len(corpus.clip_ids))
        drawn = {
            name: through.features(
                np.nan_to_num(corpus.shown[name][start:stop]), _rng(corpus, name, number)
            )
            for names in views.values()
            for name in names
        }
        layers = {layer: _sum([drawn[name] for name in names]) for layer, names in views.items()}
        for row in range(max(start, clips.start) - start, min(stop, clips.stop) - start):
            yield {layer: array[row : row + 1] for layer, array in layers.items()}


def frames_of(
    row: Mapping[Layer, Features], settings: PlantedSettings, clip: int
) -> dict[Layer, Features]:
    """Return frames [T, D] whose mean over time is the row [1, D]; T is as many as `settings` allow."""
    rng = np.random.default_rng([settings.seed, 2, clip])
    fewest, most = settings.n_frames
    n_frames = int(rng.integers(fewest, most + 1))
    frames: dict[Layer, Features] = {}
    for layer, vector in row.items():
        noise = rng.standard_normal((n_frames, vector.shape[1]), dtype=np.float32)
        frames[layer] = vector + (noise - noise.mean(axis=0))
    return frames


def _rng(corpus: PlantedCorpus, name: ViewName, block: int) -> np.random.Generator:
    modality, layer = name
    key = [corpus.settings.seed, *modality.encode(), *str(layer).encode(), block]
    return np.random.default_rng(key)


def _sum(arrays: list[Features]) -> Features:
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array
    return total
