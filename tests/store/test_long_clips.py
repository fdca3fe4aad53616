"""Clips longer than a block, types that change from clip to clip, clips that fail in between."""

import hashlib

import numpy as np
import pytest
from part_factory import make_set, ok_clip, part_folder, write_part

from mer_store.errors import UsageError
from mer_store.store import row_block, writeback
from mer_store.store.verify import verify
from mer_store.store.writer import ClipRows, PartWriter

LAYERS = (18, 19)


def clip_of(clip_id, n_rows, dtype, seed, width=8):
    rng = np.random.default_rng(seed)
    layers = {layer: rng.standard_normal((n_rows, width)).astype(dtype) for layer in LAYERS}
    return ClipRows(clip_id, "ok", digest=f"sha256:{seed:064x}", layers=layers)


def digests_of(feature_set, record):
    folder = part_folder(feature_set, record)
    return {path: hashlib.sha256((folder / path).read_bytes()).hexdigest() for path in record.files}


@pytest.mark.parametrize("block_rows", [1, 7, 256, 1000])
def test_blocks_leave_no_trace(tmp_path, monkeypatch, block_rows):
    monkeypatch.setattr(row_block, "BLOCK_BYTES", block_rows * len(LAYERS) * 8 * 4)
    dtypes = [np.float32, np.float16, np.float64, np.float32]
    lengths = [3, 700, 0, 300, 1, 256]
    clips = [clip_of(f"c{n}", length, dtypes[n % 4], n) for n, length in enumerate(lengths)]
    broken = clip_of("broken", 5, np.float32, 99)
    broken.layers[19][4, 0] = np.nan
    clips.insert(2, broken)
    feature_set = make_set(tmp_path)
    record = write_part(feature_set, clips, LAYERS)
    good = [clip for clip in clips if clip is not broken]
    assert record.clip_ids == tuple(clip.clip_id for clip in good)
    assert verify(feature_set) == []
    assert digests_of(feature_set, record) == {p: f.sha256 for p, f in record.files.items()}
    found = feature_set.ragged(LAYERS, list(record.clip_ids))
    for clip, rows in zip(good, found, strict=True):
        for number, layer in enumerate(LAYERS):
            expected = clip.layers[layer].astype(np.float16)
            np.testing.assert_array_equal(rows[:, number], expected)


def test_the_bytes_of_a_part_do_not_depend_on_blocks_or_hints(tmp_path, monkeypatch):
    records = []
    for block_rows, hint in ((5, None), (4096, writeback._sync_file_range)):
        monkeypatch.setattr(row_block, "BLOCK_BYTES", block_rows * len(LAYERS) * 8 * 4)
        monkeypatch.setattr(writeback, "_sync_file_range", hint)
        clips = [clip_of(f"c{n}", 90, np.float32, n) for n in range(7)]
        clips[3].layers[18][:, 0] = 1e5  # wider than float16, in one layer of one clip
        feature_set = make_set(tmp_path / str(block_rows))
        records.append(write_part(feature_set, clips, LAYERS))
    assert records[0].to_json() == records[1].to_json()


def test_a_clip_that_failed_decides_no_width(tmp_path):
    feature_set = make_set(tmp_path)
    failed = clip_of("failed", 2, np.float32, 0, width=4)
    failed.layers[18][0, 0] = np.inf
    with PartWriter(feature_set, LAYERS) as writer:
        assert writer.add(failed).status == "failed"
        assert writer.add(clip_of("good", 2, np.float32, 1)).status == "ok"
        with pytest.raises(UsageError, match="expected 8 wide, got 4"):
            writer.add(clip_of("narrow", 2, np.float32, 2, width=4))
        record = writer.commit()
    assert record.arrays["18"].shape == (2, 8)


def test_rows_may_be_reused_by_the_caller(tmp_path):
    feature_set = make_set(tmp_path)
    shared = ok_clip("a", LAYERS, 4)
    expected = {layer: rows.copy() for layer, rows in shared.layers.items()}
    with PartWriter(feature_set, LAYERS) as writer:
        writer.add(shared)
        for rows in shared.layers.values():
            rows[:] = 7
        writer.commit()
    rows = feature_set.ragged([18], ["a"])[0][:, 0]
    np.testing.assert_array_equal(rows, expected[18].astype(rows.dtype))
