"""`to_dask` and `to_xarray`: the same numbers as `read`, lazily, and checked."""

import os
import pickle
import subprocess
import sys

import dask
import numpy as np
import pytest
from part_factory import make_set, ok_clip, part_folder, write_part

from mer_store.arrays import Piece
from mer_store.errors import StoreDamagedError, UsageError


@pytest.fixture
def utterances(tmp_path):
    feature_set = make_set(tmp_path / "store", "utterance")
    write_part(feature_set, {"c": 1, "a": 1}, layers=(17, 18))
    write_part(feature_set, {"b": 1, "d": 1, "e": 1}, layers=(17, 18))
    write_part(feature_set, {"x": 1}, layers=(17,))
    return feature_set


@pytest.fixture
def frames(tmp_path):
    feature_set = make_set(tmp_path / "store", "frame")
    write_part(feature_set, {"c": 3, "a": 5}, layers=(15, 16))
    write_part(feature_set, {"b": 2}, layers=(15, 16))
    return feature_set


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def test_dask_has_a_chunk_for_each_piece(utterances):
    array = utterances.to_dask(18)
    assert (array.shape, array.dtype) == ((5, 4), np.float16)
    assert sorted(array.chunks[0]) == [2, 3]
    every = utterances.to_dask([17, 18])
    assert every.shape == (5, 2, 4)
    np.testing.assert_array_equal(every[:, 1].compute(), array.compute())


def test_xarray_names_clips_and_layers(utterances):
    data = utterances.to_xarray([18, 17])
    assert dict(data.sizes) == {"clip": 5, "layer": 2, "feature": 4}
    assert data.attrs["fingerprint"] == utterances.spec.fingerprint
    ids = ["e", "a", "d"]
    np.testing.assert_array_equal(
        data.features.sel(clip=ids, layer=[17, 18]).values, utterances.read([17, 18], ids)
    )


def test_frames_come_with_offsets(frames):
    data = frames.to_xarray([15, 16])
    assert data.features.dims == ("row", "layer", "feature")
    ids, offsets = data["clip"].values.tolist(), data.offsets.values
    assert sorted(ids) == ["a", "b", "c"]
    assert len(offsets) == 4
    for number, expected in enumerate(frames.ragged([15, 16], ids)):
        got = data.features[offsets[number] : offsets[number + 1]]
        np.testing.assert_array_equal(got.values, expected)


def test_layers_in_different_parts(tmp_path):
    feature_set = make_set(tmp_path / "store", "utterance")
    write_part(feature_set, {"a": 1, "b": 1, "c": 1}, layers=(17,))
    write_part(feature_set, {"a": 1, "c": 1}, layers=(18,))
    write_part(feature_set, {"b": 1}, layers=(18,))
    data = feature_set.to_xarray([17, 18])
    np.testing.assert_array_equal(
        data.features.sel(clip=["a", "b", "c"]).values, feature_set.read([17, 18])
    )


def test_a_widened_part_makes_all_of_it_wide(utterances):
    wide = ok_clip("wide", layers=(17, 18), n_rows=1)
    wide.layers[18][0, 0] = 1e6
    write_part(utterances, [wide], layers=(17, 18))
    array = utterances.to_dask(18)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(
        np.sort(array.compute()[:, 0]),
        np.sort(utterances.read([18], ["a", "b", "c", "d", "e", "wide"])[:, 0, 0]),
    )


def test_named_layers(tmp_path):
    feature_set = make_set(tmp_path / "store", "utterance")
    write_part(feature_set, {"a": 1}, layers=(3, "embed"))
    assert feature_set.to_xarray(["embed", 3]).layer.values.tolist() == ["embed", "3"]


def test_nothing_is_read_before_it_is_computed_and_then_it_is_checked(tmp_path):
    feature_set = make_set(tmp_path / "store", "utterance")
    good = write_part(feature_set, {"a": 1})
    bad = write_part(feature_set, {"b": 1})
    assert good.part_id != bad.part_id
    flip_a_byte(part_folder(feature_set, bad) / "18" / "c" / "0" / "0")
    data = feature_set.to_xarray([18])
    np.testing.assert_array_equal(
        data.features.sel(clip=["a"]).values, feature_set.read([18], ["a"])
    )
    with pytest.raises(StoreDamagedError, match=f"{bad.part_id}.*clips b"):
        data.features.sel(clip=["b"]).compute()


def test_a_piece_travels_to_a_worker_process_closed(utterances):
    array = utterances.to_dask(18)
    expected = array.compute()
    piece = Piece(utterances, (18,), ("a", "b"), np.ones(2, np.int64), np.dtype("float16"))
    text = pickle.dumps(piece)
    assert len(text) < 2000  # neither the index nor open files
    read = pickle.loads(text).read()  # noqa: S301 - our own
    np.testing.assert_array_equal(read, utterances.read([18], ["a", "b"]))
    with dask.config.set(scheduler="threads", num_workers=2):
        np.testing.assert_array_equal(array.compute(), expected)


def test_what_cannot_be_had_is_said(utterances, tmp_path):
    with pytest.raises(UsageError, match=r"no clip has the layers 3; there are 17-18"):
        utterances.to_dask(3)
    with pytest.raises(UsageError, match="no layer asked for"):
        utterances.to_xarray([])
    other = make_set(tmp_path / "other", "utterance")
    narrow, wide = ok_clip("a", (1,), 1), ok_clip("a", (2,), 1, width=6)
    clip = ok_clip("a", (1, 2), 1)
    clip.layers.update(narrow.layers)
    clip.layers.update(wide.layers)
    write_part(other, [clip], layers=(1, 2))
    with pytest.raises(UsageError, match=r"different widths \[4, 6\]"):
        other.to_dask([1, 2])


def test_xarray_that_is_not_there_is_named(utterances, monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(UsageError, match=r"pip install 'mer-store\[xarray\]'"):
        utterances.to_xarray([18])


def test_reading_a_store_loads_no_dask(tmp_path):
    code = (
        "import sys, mer_store.store.feature_set; "
        "sys.exit(' '.join({'dask', 'xarray'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False
    )
    assert done.stderr.strip() == ""
