"""Frames of many clips in one array, zeros after each clip's last."""

import numpy as np
import pytest
from part_factory import make_set, values_of, write_part

from mer_store.errors import UsageError

LENGTHS = {"a": 3, "b": 1, "c": 300}
LAYERS = (15, 18)


@pytest.fixture
def frames(tmp_path):
    frames = make_set(tmp_path / "store")
    write_part(frames, {"a": 3, "c": 300}, LAYERS)
    write_part(frames, {"b": 1}, LAYERS)
    frames.refresh()
    return frames


def test_rows_then_zeros(frames):
    array, lengths = frames.padded(
        LAYERS,
        ["c", "b", "a"],
        np.float32,
        empty=lambda shape, dtype: np.full(shape, np.nan, dtype),
    )
    assert (array.shape, array.dtype) == ((3, 300, 2, 4), np.float32)
    assert lengths.tolist() == [300, 1, 3]
    for rows, clip_id in zip(array, "cba", strict=True):
        n_rows = LENGTHS[clip_id]
        for place, layer in enumerate(LAYERS):
            np.testing.assert_array_equal(rows[:n_rows, place], values_of(clip_id, layer, n_rows))
        assert not rows[n_rows:].any()


def test_no_clip(frames):
    array, lengths = frames.padded([18], [])
    assert (array.shape, len(lengths)) == ((0, 0, 1, 4), 0)


def test_clips_without_a_layer_are_named(frames):
    with pytest.raises(UsageError, match=r"1 of 2 clips lack some of the layers 18 .*: nobody"):
        frames.padded([18], ["a", "nobody"])
