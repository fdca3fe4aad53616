"""Whether numbers can be stored: finite, and within the range of the stored type."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The smallest numbers that round to infinity.
_FLOAT16_LIMIT = 65520.0
_FLOAT32_LIMIT = 2.0**128 - 2.0**103
#: The bits of the infinities; those of NaN are above.
_FLOAT16_INF = 0x7C00
_FLOAT16_MINUS_INF = 0xFC00
#: Up to so many values BLAS stays in one thread.
_QUICK_VALUES = 8192


def fits(rows: NDArray[Any], stored_dtype: np.dtype[Any]) -> bool | None:
    """Tell whether floats of any shape can be stored in a type; None where some value is not finite.

    Values beyond float32 count as not finite: no type that is stored holds them.
    """
    if not rows.size or rows.dtype == np.uint8:
        return True
    if rows.dtype == np.float16:
        return _is_finite_float16(rows) or None
    narrow = stored_dtype == np.float16
    limit = _FLOAT16_LIMIT if narrow else _FLOAT32_LIMIT
    # No value is above the root of the sum of squares: mostly, one quick pass tells all.
    if rows.size <= _QUICK_VALUES and float(np.vdot(rows, rows)) < limit * limit / 2:
        return True
    # NaN and infinity are among the extremes wherever they are.
    low, high = float(rows.min()), float(rows.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        return None
    extreme = max(-low, high)
    if extreme < limit:
        return True
    return False if narrow and extreme < _FLOAT32_LIMIT else None


def _is_finite_float16(rows: NDArray[Any]) -> bool:
    """Compare the bits: as signed numbers the positive ones rank highest, as unsigned the negative ones."""
    positive = np.maximum.reduce(rows.view(np.int16), axis=None)
    negative = np.maximum.reduce(rows.view(np.uint16), axis=None)
    return bool(positive < _FLOAT16_INF and negative < _FLOAT16_MINUS_INF)
