"""A record's text is read by a quick way and a careful one: they agree, or the quick one leaves it alone."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from part_factory import make_set, ok_clip, write_part

from mer_store.errors import StoreDamagedError
from mer_store.store.ledger_row import LedgerRow, _all_valid, _check, read_rows
from mer_store.store.record import CommitRecord
from mer_store.store.record_text import read_plain


@pytest.fixture
def text(tmp_path):
    """Return the text of a record of ours."""
    clips = [ok_clip(clip_id) for clip_id in ("a", "b", "ü")]
    return write_part(make_set(tmp_path), clips).to_json().encode()


def test_our_own_texts_are_read_quickly(text):
    values = read_plain(text)
    assert values is not None
    record = CommitRecord.from_values(values, "x")
    assert record == CommitRecord.from_values(json.loads(text), "x")
    assert record == CommitRecord.from_json(text, "x")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b'"attempt":', b'"attempt" :'),
        lambda text: text.replace(b'"attempt":', b'"attempt":7,"attempt":'),
        lambda text: text.replace(b'"n_rows":', b'"n_rows":9,"n_rows":', 1),
        lambda text: text.replace(b'"clip_id":"a"', b'"clip_id":"\\u0061"'),
        lambda text: text.replace(b'"ledger":[{', b'"ledger":[{"more":1,'),
        lambda text: text.replace(b'"status":"ok"', b'"status":1', 1),
        lambda text: text.rstrip(),
        lambda text: b" " + text,
        lambda text: text.replace("ü".encode(), b"\xff"),
    ],
)
def test_any_other_text_needs_a_careful_look(text, change):
    changed = change(text)
    assert changed != text
    assert read_plain(changed) is None


def test_a_key_that_stands_twice_is_refused(text):
    with pytest.raises(StoreDamagedError, match="twice"):
        CommitRecord.from_json(text.replace(b'"n_rows":', b'"n_rows":9,"n_rows":', 1), "x")


_ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.integers(), st.floats(), st.text(max_size=3)
)
_ROWS = st.builds(
    LedgerRow,
    st.one_of(st.sampled_from(["a", "b c", "ü", "", "\n", "\ud800", "x" * 256]), _ODD),
    st.one_of(st.sampled_from(["ok", "failed", "empty", "odd"])),
    st.one_of(st.none(), st.sampled_from(["no face", "a\nb", "x" * 1001])),
    st.one_of(st.sampled_from([0, 1, 1 << 41, -1]), _ODD),
    st.one_of(st.sampled_from(["sha256:0", "a b", "", "x" * 129, "é"]), _ODD),
    st.one_of(st.sampled_from([0, (1 << 63) - 1, 1 << 63, -1]), _ODD),
    st.one_of(st.sampled_from([0, 1 - (1 << 63), -(1 << 63), 1 << 63]), _ODD),
)


def _passes(check, *arguments):
    try:
        return check(*arguments) is not False
    except (ValueError, TypeError, AttributeError):
        return False


@given(st.lists(_ROWS, min_size=1, max_size=3))
def test_columns_pass_only_where_every_row_does(rows):
    each = all(_passes(_check, row) for row in rows)
    assert not _passes(_all_valid, tuple(rows)) or each
    assert _passes(read_rows, rows) == each
