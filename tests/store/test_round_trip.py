"""What is written comes back, in any order, by us and by plain zarr."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from part_factory import make_set, ok_clip, part_folder, values_of, write_part

from mer_store.errors import UsageError
from mer_store.store.writer import ClipRows, PartWriter

LENGTHS = st.one_of(st.sampled_from([0, 1, 255, 256, 257, 512]), st.integers(0, 600))


def assert_zarr_agrees(feature_set, record):
    """Every array, read by plain zarr from the part's folder, equals what was promised and what we read."""
    group = zarr.open_group(part_folder(feature_set, record), mode="r", zarr_format=3)
    members = dict(group.members(max_depth=None))
    arrays = {name: item for name, item in members.items() if isinstance(item, zarr.Array)}
    assert set(arrays) == set(record.arrays)
    assert group.attrs["mer_store"]["clip_ids"] == list(record.clip_ids)
    for name, info in record.arrays.items():
        assert (arrays[name].shape, arrays[name].dtype.name) == (info.shape, info.dtype)
        direct = zarr.open_array(part_folder(feature_set, record) / name, mode="r", zarr_format=3)
        np.testing.assert_array_equal(direct[:], arrays[name][:])
    for layer in record.layers if record.clip_ids else ():
        ours = feature_set.ragged([layer], record.clip_ids)
        np.testing.assert_array_equal(
            arrays[str(layer)][:], np.concatenate([rows[:, 0] for rows in ours])
        )


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(LENGTHS, min_size=1, max_size=6),
    layers=st.sampled_from([(18,), (0, 18), ("embed",), (18, "embed")]),
    stored=st.sampled_from(["float16", "float32"]),
    width=st.sampled_from([1, 3, 8]),
    order=st.randoms(use_true_random=False),
)
def test_ragged_parts_come_back(lengths, layers, stored, width, order):
    with tempfile.TemporaryDirectory() as folder:
        feature_set = make_set(Path(folder), stored_dtype=stored)
        clips = {f"clip{n}": length for n, length in enumerate(lengths)}
        record = write_part(
            feature_set, [ok_clip(c, layers, n, width=width) for c, n in clips.items()], layers
        )
        asked = [*clips, *clips]
        order.shuffle(asked)
        for clip_id, rows in zip(asked, feature_set.ragged(layers, asked), strict=True):
            assert rows.dtype == stored
            assert rows.shape == (clips[clip_id], len(layers), width)
            for number, layer in enumerate(layers):
                expected = values_of(clip_id, layer, clips[clip_id], width=width)
                np.testing.assert_array_equal(rows[:, number], expected)
        (piece,) = feature_set.iter_parts(layers)
        assert piece[0] == list(clips)
        assert piece[1].tolist() == [0, *np.cumsum(lengths)]
        assert_zarr_agrees(feature_set, record)


@pytest.mark.parametrize("n_clips", [1, 255, 256, 257, 600])
@pytest.mark.parametrize("verify", [True, False])
def test_utterances_come_back_whole_and_picked(tmp_path, n_clips, verify):
    feature_set = make_set(tmp_path, "utterance")
    layers = (18, 19)
    ids = [f"clip{n:04d}" for n in range(n_clips)]
    record = write_part(feature_set, dict.fromkeys(ids, 1), layers)
    expected = np.stack([[values_of(clip_id, layer, 1)[0] for layer in layers] for clip_id in ids])
    np.testing.assert_array_equal(feature_set.read(layers, verify=verify), expected)
    np.testing.assert_array_equal(feature_set.read([19], ids[::-1])[:, 0], expected[::-1, 1])
    few = np.random.default_rng(0).integers(0, n_clips, max(n_clips // 10, 1))
    picked = feature_set.read(layers, [ids[n] for n in few], np.float32, verify=verify)
    assert picked.dtype == np.float32
    np.testing.assert_array_equal(picked, expected[few])
    assert_zarr_agrees(feature_set, record)


def test_reading_over_several_parts_keeps_the_order_asked(tmp_path):
    feature_set = make_set(tmp_path, "utterance")
    ids = [f"clip{n:03d}" for n in range(90)]
    for start in range(0, 90, 30):
        write_part(feature_set, dict.fromkeys(ids[start : start + 30], 1))
    asked = [ids[n] for n in np.random.default_rng(1).permutation(90)]
    for some in (asked, asked[:7], [asked[0]], [asked[3]] * 4):
        expected = np.array([values_of(clip_id, 18, 1) for clip_id in some])
        np.testing.assert_array_equal(feature_set.read([18], some), expected)
    assert feature_set.read([18], []).shape == (0, 1, expected.shape[2])


def test_a_row_wanted_twice_is_read_twice(tmp_path):
    feature_set = make_set(tmp_path, "utterance")
    write_part(feature_set, {"a": 1, "b": 1})
    twice = feature_set.read([18], ["a", "b", "a"])
    np.testing.assert_array_equal(twice[0], twice[2])
    np.testing.assert_array_equal(twice[1, 0], values_of("b", 18, 1)[0])


def test_layers_of_one_clip_may_lie_in_different_parts(tmp_path):
    feature_set = make_set(tmp_path)
    write_part(feature_set, {"a": 3, "b": 2}, layers=(18,))
    write_part(feature_set, {"b": 2, "a": 3, "c": 1}, layers=(19,))
    assert feature_set.layers == (18, 19)
    a, b = feature_set.ragged([19, 18], ["a", "b"])
    np.testing.assert_array_equal(a[:, 0], values_of("a", 19, 3))
    np.testing.assert_array_equal(b[:, 1], values_of("b", 18, 2))
    ((ids, offsets, arrays),) = feature_set.iter_parts([18, 19])
    for number, clip_id in enumerate(ids):
        span = slice(offsets[number], offsets[number + 1])
        for layer in (18, 19):
            n_rows = offsets[number + 1] - offsets[number]
            np.testing.assert_array_equal(arrays[layer][span], values_of(clip_id, layer, n_rows))
    assert sorted(ids) == ["a", "b"]


def test_a_part_without_rows(tmp_path):
    feature_set = make_set(tmp_path)
    record = write_part(feature_set, [ClipRows("a", "empty", "no face"), ClipRows("b", "failed")])
    assert record.clip_ids == ()
    assert set(record.arrays) == {"offsets"}
    assert_zarr_agrees(feature_set, record)
    assert [(c, s.name, r) for c, s, r in feature_set.outcomes()] == [
        ("a", "EMPTY", "no face"),
        ("b", "FAILED", "no reason was given"),
    ]
    assert feature_set.clip_ids == ()
    assert list(feature_set.iter_parts([18])) == []


def test_side_tables_come_back(tmp_path):
    feature_set = make_set(tmp_path)
    tables = {
        clip_id: {
            "images": {
                "time_s": np.linspace(0, 1, n),
                "box": np.arange(4 * n, dtype=np.int16).reshape(n, 4),
                "found": np.arange(n) % 2 == 0,
            }
        }
        for clip_id, n in {"a": 3, "b": 0, "d": 5000}.items()
    }
    clips = [ok_clip(c, tables=tables.get(c)) for c in "abcd"]
    record = write_part(feature_set, [*clips[:2], ClipRows("e", "failed", "x"), *clips[2:]])
    assert_zarr_agrees(feature_set, record)
    found = dict(zip("dacb", feature_set.table("images", list("dacb")), strict=True))
    for clip_id in "abd":
        for column, values in tables[clip_id]["images"].items():
            np.testing.assert_array_equal(found[clip_id][column], values)
            assert found[clip_id][column].dtype == values.dtype
    assert {len(values) for values in found["c"].values()} == {0}
    with pytest.raises(UsageError, match="no table 'faces'; there is: images"):
        feature_set.table("faces", ["a"])


def test_wide_and_narrow_parts_are_read_as_one_type(tmp_path):
    feature_set = make_set(tmp_path, "utterance")
    write_part(feature_set, {"a": 1})
    big = ok_clip("b", n_rows=1)
    big.layers[18][0, 0] = 70000.0
    write_part(feature_set, [big])
    both = feature_set.read([18], ["b", "a"])
    assert both.dtype == np.float32
    assert both[0, 0, 0] == 70000.0
    assert feature_set.read([18], ["a"]).dtype == np.float16


def test_layers_of_different_width_are_read_one_by_one(tmp_path):
    feature_set = make_set(tmp_path, "utterance")
    clip = ClipRows("a", "ok", layers={18: np.ones((1, 2)), "embed": np.ones((1, 3))})
    write_part(feature_set, [clip], layers=(18, "embed"))
    assert feature_set.read(["embed"]).shape == (1, 1, 3)
    with pytest.raises(UsageError, match="different widths"):
        feature_set.read([18, "embed"])


def test_asking_for_what_is_not_there(tmp_path):
    feature_set = make_set(tmp_path, "utterance")
    with pytest.raises(UsageError, match=r"1 of 1 clips lack.*: a"):
        feature_set.read([18], ["a"])
    write_part(feature_set, {"a": 1})
    asked = ["a", *(f"x{n}" for n in range(8))]
    with pytest.raises(
        UsageError, match=r"8 of 9 clips.*: x0, x1, x2, x3, x4 and 3 more\. Run `mer"
    ):
        feature_set.read([18], asked)
    with pytest.raises(UsageError, match="stored: 18"):
        feature_set.read([20], ["a"])
    with pytest.raises(UsageError, match="no layer asked for"):
        feature_set.read([], ["a"])
    with pytest.raises(UsageError, match=r"use ragged\(\)"):
        make_set(tmp_path, "frame").read([18], ["a"])


def test_a_writer_refuses_what_does_not_fit(tmp_path):
    feature_set = make_set(tmp_path, "utterance")
    with PartWriter(feature_set, (18,)) as writer:
        writer.add(ok_clip("a", n_rows=1, tables={"images": {"x": np.zeros(2)}}))
        bad = {
            "added twice": ok_clip("a", n_rows=1),
            "expected the layers 18, got 19": ok_clip("b", layers=(19,), n_rows=1),
            "expected one row": ok_clip("b", n_rows=2),
            "expected 4 wide": ok_clip("b", n_rows=1, width=5),
            "clip id": ok_clip("b\n", n_rows=1),
            "status": ClipRows("b", "fine"),
            "columns": ok_clip("b", n_rows=1, tables={"images": {"y": np.zeros(1)}}),
            "expected float64": ok_clip("b", n_rows=1, tables={"images": {"x": np.zeros(1, "i4")}}),
            "cannot be used": ok_clip("b", n_rows=1, tables={"../x": {"x": np.zeros(1)}}),
            "expected numbers": ok_clip("b", n_rows=1, tables={"t": {"x": np.array(["text"])}}),
        }
        for text, clip in bad.items():
            with pytest.raises(UsageError, match=text):
                writer.add(clip)
        assert writer.n_clips == 1
        writer.commit()
    np.testing.assert_array_equal(feature_set.read([18])[0, 0], values_of("a", 18, 1)[0])
    with pytest.raises(UsageError, match="committed or dropped"):
        writer.add(ok_clip("c", n_rows=1))


def test_leaving_without_commit_leaves_nothing(tmp_path):
    feature_set = make_set(tmp_path)
    with PartWriter(feature_set, (18,)) as writer:
        writer.add(ok_clip("a"))
    assert not list((feature_set.path / "tmp").iterdir())
    assert feature_set.part_ids() == ()
    with (
        PartWriter(feature_set, (18,)) as writer,
        pytest.raises(UsageError, match="nothing to comm"),
    ):
        writer.commit()
