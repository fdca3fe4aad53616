"""Each clip's rows have a checksum of their own."""

from itertools import pairwise

import numpy as np
import pytest
import zarr
from crc32c import crc32c
from part_factory import make_set, ok_clip, part_folder, write_part

from mer_store.errors import StoreDamagedError
from mer_store.store.clip_checks import CLIP_CHECKS, check_of, row_bytes
from mer_store.store.feature_set import FeatureSet
from mer_store.store.part_reader import Parts
from mer_store.store.record import CommitRecord
from mer_store.store.verify import verify
from mer_store.store.writer import ClipRows

LENGTHS = {"a": 3, "b": 700, "none": 0, "c": 1, "d": 300}


@pytest.fixture
def record_and_set(tmp_path):
    made = make_set(tmp_path / "store")
    clips = [ok_clip(name, (17, 18), n) for name, n in LENGTHS.items()]
    return write_part(made, [*clips, ClipRows("gone", "failed", "no")], (17, 18)), made


def test_they_are_those_of_the_rows_any_reader_sees(record_and_set):
    record, made = record_and_set
    group = zarr.open_group(part_folder(made, record), mode="r", zarr_format=3)
    checks, offsets = group[CLIP_CHECKS][:], group["offsets"][:]
    assert checks.shape == (len(LENGTHS), 2)
    for number, layer in enumerate((17, 18)):
        rows = group[str(layer)][:]
        expected = [crc32c(rows[start:stop].tobytes()) for start, stop in pairwise(offsets)]
        assert checks[:, number].tolist() == expected


def test_the_bytes_of_a_run_are_found_in_the_shard(record_and_set):
    record, made = record_and_set
    info = record.arrays["18"]
    data = (part_folder(made, record) / "18/c/0/0").read_bytes()
    for start, stop in [(0, 3), (255, 257), (3, 703), (256, 512), (9, 9), (1003, 1004)]:
        pieces = [data[begin:end] for begin, end in row_bytes(info, start, stop)]
        rows = np.frombuffer(b"".join(pieces), np.float16).reshape(-1, 4)
        expected = np.concatenate(made.ragged([18], list("abcd"))).reshape(-1, 4)[start:stop]
        assert (rows == expected).all()
        assert check_of(pieces) == crc32c(expected.tobytes())


def test_a_record_whose_checks_do_not_fit_is_refused(record_and_set):
    record, _ = record_and_set
    values = record.to_values()
    values["arrays"][CLIP_CHECKS]["shape"] = [4, 2]
    with pytest.raises(StoreDamagedError, match="crc32c"):
        CommitRecord.from_values(values, "here")


@pytest.mark.parametrize("how", ["deleted", "flipped"])
def test_where_they_are_damaged_the_chunks_are_checked(record_and_set, how):
    record, made = record_and_set
    expected = made.ragged([18], list("abcd"))
    folder = part_folder(made, record)
    checks, layer = folder / CLIP_CHECKS / "c/0/0", folder / "18/c/0/0"
    if how == "deleted":
        checks.unlink()
    else:
        flip(checks, 3)
    again = FeatureSet(made.path, made.spec)
    for rows, others in zip(again.ragged([18], list("abcd")), expected, strict=True):
        np.testing.assert_array_equal(rows, others)
    assert {CLIP_CHECKS in finding.path for finding in verify(made)} == {True}

    flip(layer, 700)  # in the rows of b, whose chunk has those of a, too
    with pytest.raises(StoreDamagedError, match=r"chunk 0: checksum differs.* clips a, b\."):
        FeatureSet(made.path, made.spec).ragged([18], ["a"])


@pytest.mark.parametrize("verify", [True, False])
def test_they_are_read_once_and_only_to_check(record_and_set, monkeypatch, verify):
    _, made = record_and_set
    read, real = [], Parts._read_clip_checks
    noting = lambda self, info: read.append(info.part_id) or real(self, info)  # noqa: E731
    monkeypatch.setattr(Parts, "_read_clip_checks", noting)
    for _ in range(2):
        made.ragged([17, 18], ["a", "b"], verify=verify)
    assert len(read) == verify


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
