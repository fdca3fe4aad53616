"""float16 is stored where it holds the values: never an infinity, never a row that depends on its mates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from part_factory import make_set, ok_clip, write_part

from mer_store.store.shard import CHUNK_ROWS

NOT_HALF = 1.0009  # rounded by float16


def clip_with(clip_id, n_rows, value, layers=(18,)):
    clip = ok_clip(clip_id, layers, n_rows)
    for rows in clip.layers.values():
        rows[:] = NOT_HALF
        rows[-1:, -1] = value
    return clip


@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 2 * CHUNK_ROWS + 1), min_size=1, max_size=4),
    wide=st.integers(0, 3),
)
def test_a_widened_part_keeps_every_row(tmp_path_factory, lengths, wide):
    feature_set = make_set(tmp_path_factory.mktemp("store"))
    wide = min(wide, len(lengths) - 1)
    values = [1e5 if n == wide else 2.0 for n in range(len(lengths))]
    clips = [clip_with(f"c{n}", length, values[n]) for n, length in enumerate(lengths)]
    record = write_part(feature_set, clips)
    assert record.arrays["18"].dtype == "float32"
    for clip, rows in zip(clips, feature_set.ragged([18], [c.clip_id for c in clips]), strict=True):
        expected = clip.layers[18]
        if clip.clip_id != f"c{wide}":
            expected = expected.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(rows[:, 0], expected)


def test_only_the_layer_that_overflows_is_widened(tmp_path):
    feature_set = make_set(tmp_path)
    clip = clip_with("a", 3, 2.0, (18, 19))
    clip.layers[19][0, 0] = 65520.0  # the smallest float32 that float16 rounds to an infinity
    record = write_part(feature_set, [clip], (18, 19))
    assert {name: info.dtype for name, info in record.arrays.items()} == {
        "18": "float16",
        "19": "float32",
        "crc32c": "uint32",
        "offsets": "int64",
    }


def test_the_largest_float16_is_not_widened(tmp_path):
    feature_set = make_set(tmp_path)
    record = write_part(feature_set, [clip_with("a", 2, 65519.0)])
    assert record.arrays["18"].dtype == "float16"
    assert feature_set.ragged([18])[0].max() == 65504.0


def test_underflow_is_zero(tmp_path):
    feature_set = make_set(tmp_path)
    write_part(feature_set, [clip_with("a", 1, 1e-12)])
    assert feature_set.ragged([18])[0][0, 0, -1] == 0


@pytest.mark.parametrize("stored", ["float16", "float32"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_clip_that_is_not_finite_fails_alone(tmp_path, value, stored):
    feature_set = make_set(tmp_path, stored_dtype=stored)
    clips = [
        clip_with("a", 3, 1.0, (18, 19)),
        clip_with("b", 3, 1.0, (18, 19)),
        ok_clip("c", (18, 19)),
    ]
    clips[1].layers[19][1, 1] = value
    record = write_part(feature_set, clips, (18, 19))
    assert record.clip_ids == ("a", "c")
    ledger = feature_set.ledger(["b"])
    assert ledger.reasons == ["non-finite values in layer 19"]
    assert ledger.digest[0] == clips[1].digest
    np.testing.assert_array_equal(feature_set.ragged([18], ["c"])[0][:, 0], clips[2].layers[18])


def test_float32_is_stored_as_it_is(tmp_path):
    feature_set = make_set(tmp_path, stored_dtype="float32")
    write_part(feature_set, [clip_with("a", 3, 1e30)])
    (rows,) = feature_set.ragged([18])
    assert rows[0, 0, 0] == np.float32(NOT_HALF)
    assert rows[-1, 0, -1] == np.float32(1e30)
