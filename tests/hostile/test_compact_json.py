"""The text of our own files, which names of parts and digests are made from, is that of Python's json."""

import json
import sys

import pytest

from mer_store.store.record import part_id
from mer_store.strict_json import compact_json


def as_python_writes(value):
    return (json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def test_every_character():
    plain = [chr(n) for n in range(sys.maxunicode + 1) if not 0xD800 <= n <= 0xDFFF]
    for start in range(0, len(plain), 1 << 12):
        text = "".join(plain[start : start + (1 << 12)])
        assert compact_json({text: text}) == as_python_writes({text: text})


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        2**63 - 1,
        1 - 2**63,
        0.0,
        1.5,
        True,
        False,
        None,
        "",
        [],
        {},
        [[], {"a": ["b"]}],
    ],
)
def test_every_kind_of_value(value):
    assert compact_json(value) == as_python_writes(value)


def test_half_a_character_is_refused():
    with pytest.raises(ValueError, match="surrogate"):
        compact_json("\ud800")


def test_a_part_is_named_as_ever():
    assert part_id("00ff", ["片段2", "clip1"], [18, 17, "projection"], 1) == (
        "c177f2acd59b489ab43aa3dd847ac3da"
    )
