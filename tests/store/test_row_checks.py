"""A few clips of one row each are checked by their own checksums, not by their chunks'."""

import numpy as np
import pytest
from part_factory import WIDTH, make_set, ok_clip, part_folder, values_of, write_part

from mer_store.errors import StoreDamagedError
from mer_store.store import shard_reader
from mer_store.store.clip_checks import CLIP_CHECKS
from mer_store.store.feature_set import FeatureSet
from mer_store.store.verify import verify
from mer_store.store.writer import ClipRows

LAYERS = (17, 18)
IDS = [f"clip{n:03d}" for n in range(700)]
FEW = [IDS[n] for n in (3, 699, 300, 3, 0)]
ROW_BYTES = WIDTH * 2


@pytest.fixture
def written(tmp_path):
    """A part of utterances; one clip failed, so that the ledger has more clips than there are rows."""
    feature_set = make_set(tmp_path / "store", "utterance")
    clips = [ok_clip(name, LAYERS, 1) for name in IDS]
    clips.insert(2, ClipRows("gone", "failed", "no"))
    write_part(feature_set, clips, LAYERS)
    return feature_set


def opened(feature_set):
    return FeatureSet(feature_set.path, feature_set.spec)


def flip(feature_set, name, at):
    path = part_folder(feature_set, feature_set.records()[0]) / name / "c" / "0" / "0"
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def assert_rows(found, asked, layers):
    for place, layer in enumerate(layers):
        expected = np.concatenate([values_of(name, layer, 1) for name in asked])
        np.testing.assert_array_equal(found[:, place], expected)


@pytest.fixture
def n_checked(monkeypatch):
    """How many chunks and how many rows were checked."""
    counts = {"chunks": 0, "rows": 0}

    def counting(kind, check):
        def checking(data):
            counts[kind] += 1
            return check(data)

        return checking

    for kind, name in (("chunks", "crc_of"), ("rows", "crc32c")):
        monkeypatch.setattr(shard_reader, name, counting(kind, getattr(shard_reader, name)))
    return counts


@pytest.mark.parametrize("layers", [[18], [17, 18]])
def test_few_rows_are_checked_once_and_alone(written, n_checked, layers):
    feature_set = opened(written)
    for asked in (FEW, FEW[::-1]):
        assert_rows(feature_set.read(layers, asked), asked, layers)
        assert n_checked["rows"] == len(layers) * len(FEW)
    assert n_checked["chunks"] == 1  # the clips' checksums are an array, with chunks of its own
    feature_set.read(layers, [*FEW, IDS[9]])
    assert n_checked["rows"] == len(layers) * (len(FEW) + 1)


def test_many_rows_are_checked_with_their_chunks(written, n_checked):
    feature_set = opened(written)
    asked = IDS[:40]  # more than an eighth of a chunk
    assert_rows(feature_set.read([18], asked), asked, [18])
    assert n_checked == {"chunks": 1, "rows": 0}
    assert_rows(feature_set.read([18], FEW), FEW, [18])
    assert n_checked["rows"] == 2  # 300 and 699: chunk 0 is known


def test_damage_names_the_one_clip_it_hits(written):
    flip(written, "18", 4 * ROW_BYTES + 1)
    assert_rows(opened(written).read([18], FEW), FEW, [18])  # 3 and 0 lie in the same chunk
    with pytest.raises(StoreDamagedError, match=r"clip's checksum.*layer 18, clips clip004\."):
        opened(written).read([18], [IDS[3], IDS[4]])


@pytest.mark.parametrize("verified", [True, False])
def test_a_row_that_was_not_checked_is_not_taken_for_checked(written, verified):
    feature_set = opened(written)
    feature_set.read([18], FEW, verify=verified)
    flip(written, "18", 3 * ROW_BYTES)
    flip(written, "18", 5 * ROW_BYTES)
    with pytest.raises(StoreDamagedError, match=r"clips clip005\."):
        feature_set.read([18], [IDS[5]])
    if not verified:
        with pytest.raises(StoreDamagedError, match=r"clips clip003\."):
            feature_set.read([18], FEW)


def test_where_the_checksums_are_damaged_the_chunks_are_checked(written):
    flip(written, CLIP_CHECKS, 3)
    assert_rows(opened(written).read([18], FEW), FEW, [18])
    assert {CLIP_CHECKS in finding.path for finding in verify(written)} == {True}
    flip(written, "18", 4 * ROW_BYTES)
    with pytest.raises(StoreDamagedError, match="chunk 0: checksum differs"):
        opened(written).read([18], FEW)
