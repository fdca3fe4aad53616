"""The boundary between what is cached and what adapters change: states rounded as a store rounds them.

Shape letters: T frames, L layers, D width.
"""

from dataclasses import dataclass

import numpy as np

from extractors.contract import Floats

#: The smallest number that rounds to infinity in float16; clips that reach it are stored in float32.
FLOAT16_LIMIT = 65520.0


@dataclass(frozen=True, slots=True)
class Cached:
    """States that adapters start from: frames [T, D] of one layer, or pooled layers [L, D]."""

    states: Floats


def as_stored(values: Floats, stored_dtype: str) -> Floats:
    """Round a clip's states at one layer as a store does; it keeps in float32 what overflows float16."""
    if stored_dtype == "float16" and np.abs(values).max() < FLOAT16_LIMIT:
        return values.astype(np.float16).astype(np.float32)
    return values
