"""Verifying names the exact clips and layers, reads each file once, and can be watched and stopped."""

import os
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from part_factory import make_set, ok_clip, part_folder, write_part

from mer_store.store import file_look
from mer_store.store import verify as verify_module
from mer_store.store.clip_checks import clip_checks
from mer_store.store.file_look import Wanted, look
from mer_store.store.shard import shard_path
from mer_store.store.store import Store
from mer_store.store.verify import verify

IDS = [f"clip{n}" for n in range(8)]


@pytest.fixture
def feature_set(tmp_path):
    feature_set = make_set(tmp_path)
    for n in range(0, 8, 2):
        write_part(feature_set, [ok_clip(c, (18, 19), 300) for c in IDS[n : n + 2]], (18, 19))
    return feature_set


class Counts:
    def __init__(self):
        self.expected, self.done = [0, 0], [0, 0]

    def expect(self, n_bytes, n_items):
        self.expected[0] += n_bytes
        self.expected[1] += n_items

    def add(self, n_bytes, n_items):
        self.done[0] += n_bytes
        self.done[1] += n_items


def test_progress_adds_up(feature_set, tmp_path):
    counts = Counts()
    assert verify(Store.open(tmp_path), deep=True, watch=counts) == []
    assert counts.done[1] == counts.expected[1] == 4
    texts = sum(p.stat().st_size for p in feature_set.path.glob("parts/**/zarr.json"))
    assert counts.done[0] == counts.expected[0] - texts


def test_every_file_is_opened_once(feature_set, monkeypatch):
    from mer_store.store import plain_file

    opened, real = [], plain_file.open_inside

    def open_inside(root, path):
        opened.append((root, path))
        return real(root, path)

    monkeypatch.setattr(plain_file, "open_inside", open_inside)
    monkeypatch.setattr(file_look, "open_inside", open_inside)
    verify(feature_set, deep=True)
    n_files = sum(len(record.files) for record in feature_set.records())
    assert len(opened) == len(set(opened)) == n_files


@pytest.mark.parametrize("n_threads", [1, 3])
def test_findings_come_in_the_order_of_parts_whatever_the_threads(feature_set, n_threads):
    expected = []
    for record in feature_set.records():
        path = part_folder(feature_set, record) / "19" / "c" / "0" / "0"
        path.chmod(0o644)
        data = bytearray(path.read_bytes())
        data[-100] ^= 4  # in the last chunk: the second clip's alone
        path.write_bytes(data)
        expected.append((record.part_id, (19,), record.clip_ids[1:]))
    found = verify(feature_set, n_threads=n_threads)
    assert [(f.part_id, f.layers, f.clip_ids) for f in found] == expected


def test_stopping_ends_the_threads(feature_set, tmp_path):
    class Stopping(Counts):
        def add(self, n_bytes, n_items):
            if n_items:
                raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        verify(Store.open(tmp_path), watch=Stopping(), n_threads=2)
    assert threading.active_count() == before


def test_values_that_are_not_finite_are_found_when_looking_deep(tmp_path, monkeypatch):
    from mer_store.store import writer

    feature_set = make_set(tmp_path)
    monkeypatch.setattr(writer, "fits", lambda rows, dtype: True)
    clips = [ok_clip(c, (18, 19)) for c in "abc"]
    clips[1].layers[19][2, 1] = np.nan
    clips[2].layers[18][0, 0] = np.inf
    write_part(feature_set, clips, (18, 19))
    assert verify(feature_set) == []
    found = verify(feature_set, deep=True)
    assert [(f.layers, f.clip_ids) for f in found] == [((18,), ("c",)), ((19,), ("b",))]
    assert {f.problem for f in found} == {"values that are not finite"}


def test_a_record_in_a_wrong_place_and_one_that_is_no_record(feature_set):
    records = feature_set.records()
    commits = feature_set.path / "commits"
    one, two = (commits / f"{record.part_id}.json" for record in records[:2])
    for path in (one, two):
        path.chmod(0o644)
    text = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(text[:50])
    found = {f.part_id: f.problem for f in verify(feature_set)}
    assert found.keys() == {record.part_id for record in records[:2]}
    assert f"the record is of part {records[1].part_id}" in found[records[0].part_id]
    assert "not JSON" in found[records[1].part_id]


def test_a_folder_that_may_not_be_read_is_an_error_and_no_finding(feature_set, monkeypatch):
    from mer_store.errors import UsageError

    def refuse(*args):
        raise PermissionError(13, "Permission denied", "x")

    monkeypatch.setattr(verify_module, "read_small", refuse)
    with pytest.raises(UsageError, match="permission denied"):
        verify(feature_set)


@given(
    lengths=st.lists(st.integers(0, 700), min_size=1, max_size=6),
    block=st.sampled_from([1, 3000, 1 << 20]),
)
@settings(max_examples=25, deadline=None)
def test_one_pass_finds_what_the_writer_wrote(tmp_path_factory, lengths, block):
    feature_set = make_set(tmp_path_factory.mktemp("store"))
    record = write_part(feature_set, {f"c{n}": rows for n, rows in enumerate(lengths)})
    part, info = part_folder(feature_set, record), record.arrays["18"]
    if not info.n_rows:
        return
    path = shard_path("18", info)
    starts = np.cumsum([0, *lengths])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_look, "_BLOCK_BYTES", block)
        wanted = Wanted(info, keep=True, finite=True, starts=starts)
        found = look(part, path, record.files[path].n_bytes, wanted)
    assert found.facts == record.files[path]
    assert (found.damaged, found.not_finite, found.wrong_index) == ([], [], False)
    np.testing.assert_array_equal(found.checks, clip_checks(part / path, info, starts))
    expected = np.concatenate([rows[:, 0] for rows in feature_set.ragged([18], record.clip_ids)])
    np.testing.assert_array_equal(found.values, expected)


def test_a_file_that_is_cut_while_it_is_read_is_not_taken_for_whole(feature_set, monkeypatch):
    real = os.readv
    monkeypatch.setattr(
        file_look.os, "readv", lambda fd, to: 0 if len(to[0]) > 4000 else real(fd, to)
    )
    found = verify(feature_set)
    assert {f.layers for f in found} == {(18,), (19,)}
    assert len(found) == 8
