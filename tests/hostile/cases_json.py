"""Records, specs and store files whose text is a bomb, or says what none of them says."""

import json

from hostile.scene import IDS, OPEN, READ, add, case

from mer_store.store.layout import MAX_RECORD_BYTES, MAX_SMALL_BYTES
from mer_store.store.record_rules import MAX_ARRAYS, MAX_FILES
from mer_store.strict_json import MAX_VALUES

TEXTS = {
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "number": b"1",
    "cut_short": b'{"format": 1, "finger',
    "deep_lists": b"[" * 200_000,
    "deep_objects": b'{"a":' * 100_000,
    "deep_and_closed": b"[" * 500 + b"]" * 500,
    "very_many_lists": b"[" + b"[]," * MAX_VALUES + b"[]]",
    "very_many_numbers": b"[" + b"0," * MAX_VALUES + b"0]",
    "huge_number": b'{"format": ' + b"1" * 5_000_000 + b"}",
    "long_number": b'{"format": ' + b"1" * 4000 + b"}",
    "not_a_number": b'{"format": NaN}',
    "infinity": b'{"format": -Infinity}',
    "huge_exponent": b'{"format": 1e999}',
    "not_utf8": b'{"format": "\xff"}',
    "utf16": '{"format": 1}'.encode("utf-16"),
    "utf32": '{"format": 1}'.encode("utf-32"),
    "byte_order_mark": b'\xef\xbb\xbf{"format": 1}',
    "format_of_tomorrow": b'{"format": 2}',
    "format_true": b'{"format": true}',
    "format_float": b'{"format": 1.0}',
    "format_list": b'{"format": [1]}',
    "zip": b"PK\x03\x04" + bytes(100),
}
for _what, _text in TEXTS.items():
    add(f"record_{_what}", READ, lambda scene, text=_text: scene.say_text(text))
for _what in ("empty", "list", "deep_lists", "format_of_tomorrow", "format_true", "format_float",
              "huge_number", "long_number", "not_utf8", "very_many_numbers"):  # fmt: skip
    add(
        f"store_file_{_what}",
        OPEN,
        lambda scene, text=TEXTS[_what]: (scene.path / "store.json").write_bytes(text),
    )


def changed_text(scene, old, new):
    text = scene.commit.read_bytes()
    assert old in text
    scene.say_text(text.replace(old, new, 1))


@case(READ)
def record_of_too_much_space(scene):
    scene.say_text(scene.commit.read_bytes() + b" " * MAX_RECORD_BYTES)


@case(READ)
def record_of_a_terabyte(scene):
    with scene.commit.open("r+b") as file:
        file.truncate(1 << 40)


@case(OPEN)
def spec_of_too_much_space(scene):
    scene.spec.write_bytes(scene.spec.read_bytes() + b" " * MAX_SMALL_BYTES)


@case(READ)
def record_with_a_key_twice(scene):
    changed_text(scene, b'"attempt":', b'"attempt":0,"attempt":')


@case(READ)
def record_with_half_a_surrogate_pair(scene):
    changed_text(scene, b'"truncated"', b'"\\ud800"')


@case(READ)
def record_with_a_clip_of_half_a_surrogate_pair(scene):
    changed_text(scene, b'{"clip_id":"clip0"', b'{"clip_id":"\\udfff"')


ROWS = {
    "id_twice": {"clip_id": IDS[1]},
    "id_with_new_line": {"clip_id": "clip0\nclip1"},
    "id_that_acts_on_terminals": {"clip_id": "\x1b[2J"},
    "id_from_right_to_left": {"clip_id": "\u202eclip"},
    "id_empty": {"clip_id": ""},
    "id_too_long": {"clip_id": "x" * 300},
    "id_number": {"clip_id": 7},
    "id_list": {"clip_id": ["clip0"]},
    "status_unknown": {"status": "fine"},
    "status_list": {"status": ["ok"]},
    "rows_negative": {"n_rows": -1},
    "rows_float": {"n_rows": 5.0},
    "rows_true": {"n_rows": True},
    "rows_text": {"n_rows": "5"},
    "rows_beyond_64_bits": {"n_rows": 1 << 64},
    "rows_too_many": {"n_rows": 1 << 39},
    "size_negative": {"n_bytes": -5},
    "size_false": {"n_bytes": False},
    "size_empty_text": {"n_bytes": ""},
    "size_empty_list": {"n_bytes": []},
    "size_huge": {"n_bytes": 1 << 70},
    "time_float": {"mtime_ns": 1.5},
    "time_huge": {"mtime_ns": 1 << 70},
    "digest_with_space": {"digest": "a b"},
    "digest_too_long": {"digest": "a" * 200},
    "reason_list": {"reason": ["x"]},
    "reason_that_acts_on_terminals": {"reason": "\x1b]0;owned\x07"},
    "reason_of_many_lines": {"reason": "a\nb"},
    "reason_too_long": {"reason": "a" * 100_000},
    "a_value_more": {"surprise": 1},
}
for _what, _row in ROWS.items():
    add(f"ledger_{_what}", READ, lambda scene, row=_row: scene.say("ledger", 0, **row))

VALUES = {
    "layers_twice": {"layers": ["18", "18", "19"]},
    "layers_not_in_order": {"layers": ["19", "18"]},
    "layers_none": {"layers": []},
    "layers_text": {"layers": "18"},
    "layers_with_a_zero_in_front": {"layers": ["018", "19"]},
    "layers_of_wide_digits": {"layers": ["\uff11\uff18", "19"]},
    "layers_of_very_many_digits": {"layers": ["9" * 5000]},
    "layers_numbers": {"layers": [18, 19]},
    "layers_absent": {"layers": ["18", "19", "20"]},
    "attempt_huge": {"attempt": 1 << 39},
    "attempt_true": {"attempt": True},
    "attempt_negative": {"attempt": -1},
    "clip_ids_in_another_order": {"clip_ids": IDS[::-1]},
    "clip_ids_of_others": {"clip_ids": ["x"]},
    "ledger_object": {"ledger": {"clip0": {}}},
    "ledger_of_numbers": {"ledger": [1, 2]},
    "arrays_list": {"arrays": []},
    "arrays_of_numbers": {"arrays": {"18": 1}},
    "files_list": {"files": []},
    "files_of_numbers": {"files": {"18": 1}},
    "files_too_many": {"files": {f"f{n}": {} for n in range(MAX_FILES + 1)}},
    "arrays_too_many": {
        "arrays": {f"a{n}": {"shape": [0], "dtype": "int8", "chunk_rows": 1} for n in range(MAX_ARRAYS + 1)}
    },
    "versions_list": {"versions": [1]},
    "versions_that_act_on_terminals": {"versions": {"numpy": "\x1b[2J"}},
    "fingerprint_of_another_set": {"fingerprint": "0" * 12},
    "fingerprint_number": {"fingerprint": 7},
    "part_id_of_another": {"part_id": "0" * 32},
    "part_id_leads_up": {"part_id": "../../x"},
}  # fmt: skip
for _what, _values in VALUES.items():
    add(f"record_{_what}", READ, lambda scene, values=_values: scene.say(**values))


@case(READ)
def record_named_for_other_work(scene):
    """Its clips are not those that its name is made of."""
    scene.say("ledger", 6, clip_id="nobody")


SPECS = {
    "modality_unknown": {"modality": "smell"},
    "modality_of_another_folder": {"modality": "text"},
    "modality_list": {"modality": ["audio"]},
    "level_unknown": {"level": "galaxy"},
    "model_leads_up": {"model": "../../x"},
    "model_number": {"model": 7},
    "model_of_another": {"model": "other"},
    "model_very_long": {"model": "m" * 100_000},
    "weights_list": {"weights": [1]},
    "recipe_that_acts_on_terminals": {"recipe": "\x1b[2J"},
    "recipe_very_long": {"recipe": "r" * 100_000},
    "preprocessing_list": {"preprocessing": [1]},
    "preprocessing_deep": {"preprocessing": json.loads('{"a":' * 60 + "1" + "}" * 60)},
    "preprocessing_not_a_number": {"preprocessing": {"hz": float("nan")}},
    "trained_text": {"trained": "yes"},
    "dtype_object": {"stored_dtype": "object"},
    "a_value_more": {"surprise": 1},
}
for _what, _values in SPECS.items():

    def _respec(scene, values=_values):
        scene.spec.write_text(json.dumps(json.loads(scene.spec.read_text()) | values))

    add(f"spec_{_what}", OPEN, _respec)


@case(OPEN)
def spec_with_half_a_surrogate_pair(scene):
    scene.spec.write_text(scene.spec.read_text().replace('"default"', '"\\ud800"'))


@case(OPEN)
def spec_missing(scene):
    scene.spec.unlink()


for _what in ("empty", "list", "deep_lists", "deep_objects", "not_utf8", "utf16"):
    add(f"spec_{_what}", OPEN, lambda scene, text=TEXTS[_what]: scene.spec.write_bytes(text))
