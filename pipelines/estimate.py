"""An estimate of what an extraction will store, by a few of its clips."""

import numpy as np

from extractors.contract import Extractor, Loaded
from mer_store.errors import MerStoreError
from pipelines.extract import Extraction
from pipelines.feed import fetch
from pipelines.work import LevelWork


def estimate_bytes(extraction: Extraction, n_samples: int = 8) -> int:
    """Estimate what the plan will store, decoding a few of its clips to learn how many frames they have."""
    frames: dict[str, float] = {}
    total = 0.0
    for part in extraction.plan.parts:
        for stream in part.streams:
            for level in stream.levels:
                extractor = _extractor_of(extraction, level)
                rows = float(len(part.sources))
                if level.spec.level == "frame":
                    name = level.spec.name
                    if name not in frames:
                        frames[name] = _frames_per_clip(extraction, extractor, n_samples)
                    rows *= frames[name]
                itemsize = np.dtype(level.spec.stored_dtype).itemsize
                total += rows * itemsize * _width(extractor, level)
    return round(total)


def _width(extractor: Extractor, level: LevelWork) -> int:
    return sum(extractor.identity.widths[layer] for layer in level.layers)


def _extractor_of(extraction: Extraction, level: LevelWork) -> Extractor:
    wanted = (level.spec.modality, level.spec.model)
    return next(
        one
        for one in extraction.extractors
        if (one.identity.modality, one.identity.model) == wanted
    )


def _frames_per_clip(extraction: Extraction, extractor: Extractor, n_samples: int) -> float:
    sources = [source for part in extraction.plan.parts for source in part.sources]
    chosen = sources[:: max(1, len(sources) // n_samples)][:n_samples]
    loaded = [fetch(extractor, source).loaded for source in chosen]
    frames = [item.n_frames for item in loaded if isinstance(item, Loaded)]
    if not frames:
        raise MerStoreError(
            "none of the clips tried could be decoded: no estimate; run without --dry-run to see why"
        )
    return sum(frames) / len(frames)
