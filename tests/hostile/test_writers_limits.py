"""What readers refuse, writers do not write."""

import json

import pytest
from part_factory import make_set, ok_clip, write_part

from mer_store.errors import UsageError, shown
from mer_store.store import metadata, writer
from mer_store.store.plain_file import read_small
from mer_store.store.verify import verify
from mer_store.store.writer import ClipRows
from mer_store.strict_json import MAX_DEPTH, parse


def test_more_clips_than_a_part_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "MAX_CLIPS", 2)
    feature_set = make_set(tmp_path)
    with pytest.raises(UsageError, match="clip c: a part holds at most 2 clips"):
        write_part(feature_set, {"a": 1, "b": 1, "c": 1})
    write_part(feature_set, {"a": 1, "b": 1})
    assert verify(feature_set) == []


def test_a_record_that_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(metadata, "MAX_RECORD_BYTES", 5000)
    feature_set = make_set(tmp_path)
    write_part(feature_set, {"a": 1})
    with pytest.raises(UsageError, match="store fewer clips a part"):
        write_part(feature_set, {f"clip{n}": 1 for n in range(40)})
    assert list((feature_set.path / "tmp").iterdir()) == []


def test_reasons_are_stored_as_they_can_be_shown(tmp_path):
    feature_set = make_set(tmp_path)
    reasons = {
        "a": "bad \x1b[2J name",
        "b": "two\nlines\u3000wide",
        "c": "\u202eleft \udcff",
        "d": "😀",
    }
    clips = [ClipRows(clip_id, "failed", reason) for clip_id, reason in reasons.items()]
    write_part(feature_set, [ok_clip("ok"), *clips])
    feature_set.refresh()
    assert feature_set.ledger(list(reasons)).reasons == [
        "bad \\x1b[2J name", "two lines wide", "\\u202eleft \\udcff", "😀",
    ]  # fmt: skip


@pytest.mark.parametrize("layer", ["é", "１８", "a/b", ".x", "x" * 201])
def test_layers_that_no_record_may_name(tmp_path, layer):
    with pytest.raises(UsageError, match="plain names"):
        write_part(make_set(tmp_path), [ok_clip("a", (layer,))], (layer,))


def test_json_is_read_as_it_was_written():
    values = {"a": [1, 2.5, None, True, {"b": "é😀\n"}], "c": {}}
    assert parse(json.dumps(values)) == values
    assert parse(json.dumps(values, ensure_ascii=False).encode()) == values
    deepest = json.loads("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert parse(json.dumps(deepest)) == deepest
    with pytest.raises(ValueError, match="levels deep"):
        parse(json.dumps([deepest]))


def test_a_small_file_may_be_as_large_as_the_limit(tmp_path):
    (tmp_path / "x").write_bytes(b"12345")
    assert read_small(tmp_path / "x", 5) == b"12345"
    assert read_small(tmp_path, 5, "x") == b"12345"


def test_what_is_shown_keeps_its_letters():
    assert shown("片段 é\n😀") == "片段 é\n😀"
    assert shown("\x1b]0;x\x07\r\u202e") == "\\x1b]0;x\\x07\\r\\u202e"
