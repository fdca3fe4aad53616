"""JSON from files that anyone may have written: one meaning, a bounded size in memory, plain text."""

import json
import math
import re
from typing import Any, NoReturn

#: Values (and keys) a text may hold: what bounds the memory it becomes. Ours hold about 10 a clip.
MAX_VALUES = 1 << 22
MAX_DEPTH = 32
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse(text: str | bytes) -> Any:
    """Read JSON as `json.loads` does, but nothing that two readers could take for two things.

    Raises
    ------
    ValueError
        The text is no UTF-8 or no JSON, has a key twice, a number that is not finite, half of a surrogate
        pair, more than `MAX_VALUES` values or more than `MAX_DEPTH` levels.
    """
    data = text.encode() if isinstance(text, str) else text
    n_values = sum(data.count(mark) for mark in (b",", b"[", b"{"))
    if n_values > MAX_VALUES:
        raise ValueError(f"{n_values} values, more than {MAX_VALUES}")
    text = data.decode()
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        _too_deep()
    _check_depth(value)
    if _SURROGATE.search(text):
        json.dumps(value, ensure_ascii=False).encode()  # a UnicodeEncodeError is a ValueError
    return value


def _too_deep() -> NoReturn:
    raise ValueError(f"nested more than {MAX_DEPTH} levels deep") from None


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    _too_deep()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return values


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _not_finite(text)


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"a number that is not finite: {text[:20]}")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_not_finite, parse_float=_finite
)
