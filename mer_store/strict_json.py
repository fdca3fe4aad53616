"""JSON from files that anyone may have written: one meaning, a bounded size in memory, plain text."""

import json
import math
import re
from itertools import chain
from typing import Any, NoReturn

import msgspec

#: Values (and keys) a text may hold: what bounds the memory it becomes. Ours hold about 10 a clip.
MAX_VALUES = 1 << 22
MAX_DEPTH = 32
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SPACED_KEY = re.compile(rb'"[ \t\r\n]')
_SCALARS = frozenset({str, int, float, bool, type(None)})


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
        return _parse_plain(text, data) or _parse_any(text)
    except RecursionError:
        _too_deep()


def compact_json(value: Any) -> bytes:
    """Return the one text that our files have for JSON values: no space, few escapes, a line end.

    It is what ``json.dumps(value, ensure_ascii=False, separators=(",", ":"))`` gives, in a tenth of the time,
    unless a number needs an exponent, which none of ours does.
    """
    return msgspec.json.encode(value) + b"\n"


def _parse_plain(text: str, data: bytes) -> Any:
    """Read a text as our own are; return nothing where it is not, or has a key twice.

    No string of it holds a quote and no key has space behind it, so there are at least as many ``":`` as
    keys; and there are at most as many keys in the objects. Where the numbers are equal, no key was lost.
    """
    if b"\\" in data or _SPACED_KEY.search(data):
        return None
    value = _DECODER.decode(text)
    return value if _n_keys(value) == data.count(b'":') else None


def _parse_any(text: str) -> Any:
    value = _CAREFUL_DECODER.decode(text)
    _n_keys(value)
    if _SURROGATE.search(text):
        json.dumps(value, ensure_ascii=False).encode()  # a UnicodeEncodeError is a ValueError
    return value


def _n_keys(value: Any) -> int:
    """Count the keys of all objects; raise where they lie too deep in one another."""
    n_keys, level = 0, [value]
    for _ in range(MAX_DEPTH):
        objects = [outer for outer in level if type(outer) is dict]
        arrays = [outer for outer in level if type(outer) is list]
        n_keys += sum(map(len, objects))
        within = [*map(dict.values, objects), *arrays]
        if _SCALARS.issuperset(map(type, chain.from_iterable(within))):
            return n_keys
        level = [item for item in chain.from_iterable(within) if type(item) not in _SCALARS]
    return _too_deep()


def _too_deep() -> NoReturn:
    raise ValueError(f"nested more than {MAX_DEPTH} levels deep") from None


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


_DECODER = json.JSONDecoder(parse_constant=_not_finite, parse_float=_finite)
_CAREFUL_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_not_finite, parse_float=_finite
)
