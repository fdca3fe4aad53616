"""The index is derived: wrong, old or missing, it is made again and nobody can tell."""

from dataclasses import replace

import numpy as np
import pytest
from part_factory import make_set, ok_clip, values_of, write_part

from mer_store.store.feature_set import FeatureSet
from mer_store.store.index import Index
from mer_store.store.index_file import load_index
from mer_store.store.index_rows import hash_ids
from mer_store.store.ledger import Ledger, Status
from mer_store.store.writer import ClipRows


@pytest.fixture
def feature_set(tmp_path):
    feature_set = make_set(tmp_path)
    write_part(feature_set, {"a": 2, "b": 3})
    write_part(feature_set, [ok_clip("c"), ClipRows("d", "failed", "truncated", "sha256:1", 5, 6)])
    feature_set.refresh()
    return feature_set


def index_file(feature_set):
    (path,) = (feature_set.path.parents[2] / ".cache").iterdir()
    return path


def fresh(feature_set):
    return FeatureSet(feature_set.path, feature_set.spec)


def forbid_building(monkeypatch):
    monkeypatch.setattr(Index, "build", lambda *a: pytest.fail("the index was built again"))


def check(feature_set):
    ledger = feature_set.ledger(["d", "nobody", "b"])
    assert ledger.status.tolist() == [Status.FAILED, Status.MISSING, Status.OK]
    assert ledger.digest.tolist()[:2] == ["sha256:1", None]
    assert (ledger.n_bytes.tolist(), ledger.mtime_ns.tolist()) == ([5, -1, 100], [6, -1, 200])
    assert ledger.attempt.tolist() == [0, -1, 0]
    assert ledger.reasons == ["truncated", None, None]
    assert ledger.has([18, 7]).tolist() == [[False, False], [False, False], [True, False]]
    np.testing.assert_array_equal(feature_set.ragged([18], ["b"])[0][:, 0], values_of("b", 18, 3))


def test_a_warm_index_is_used_as_it_is(feature_set, monkeypatch):
    forbid_building(monkeypatch)
    check(fresh(feature_set))


def test_new_parts_extend_it(feature_set, monkeypatch):
    write_part(feature_set, {"e": 1})
    built = []
    real = Index.build
    monkeypatch.setattr(
        Index, "build", lambda records, known: built.append(records) or real(records, known)
    )
    again = fresh(feature_set)
    check(again)
    assert again.clip_ids == ("a", "b", "c", "e")
    assert [[r.clip_ids for r in records] for records in built] == [[("e",)]]


def test_parts_that_went_are_forgotten(feature_set):
    for record in feature_set.records():
        if "c" in record.clip_ids:
            (feature_set.path / "commits" / f"{record.part_id}.json").unlink()
    feature_set.refresh()
    assert feature_set.clip_ids == ("a", "b")
    assert feature_set.ledger(["d"]).status[0] == Status.MISSING


def test_a_part_that_was_put_anew_is_read_anew(feature_set):
    record = next(r for r in feature_set.records() if "a" in r.clip_ids)
    (feature_set.path / "commits" / f"{record.part_id}.json").unlink()
    (feature_set.path / "parts" / record.part_id).rename(feature_set.path / "tmp" / "away")
    again = write_part(feature_set, {"a": 7, "b": 8})
    assert again.part_id == record.part_id
    assert len(fresh(feature_set).ragged([18], ["b"])[0]) == 8


@pytest.mark.parametrize("at", [0, 20, 60, 200, -1, -200])
def test_damage_is_noticed(feature_set, at):
    path = index_file(feature_set)
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.chmod(0o644)
    path.write_bytes(data)
    check(fresh(feature_set))


@pytest.mark.parametrize("keep", [0, 10, 100, 500, -70])
def test_a_file_cut_short_is_noticed(feature_set, keep):
    path = index_file(feature_set)
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data[:keep])
    assert load_index(path) is None
    check(fresh(feature_set))


def test_every_byte_counts(feature_set):
    path = index_file(feature_set)
    data = path.read_bytes()
    other = path.with_name("other")
    padding, step = 0, 5
    for at in range(0, len(data), step):
        other.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        padding += load_index(other) is not None
    assert padding < 7 * 64 / step  # only what fills up a column to the next aligned place


def test_the_cache_may_be_deleted_any_time(feature_set):
    index_file(feature_set).unlink()
    index_file_folder = feature_set.path.parents[2] / ".cache"
    index_file_folder.rmdir()
    check(fresh(feature_set))
    check(feature_set)


def test_many_clips_find_themselves(tmp_path):
    feature_set = make_set(tmp_path, "utterance")
    ids = [f"sample_{n:05d}" for n in range(3000)]
    for start in range(0, 3000, 1000):
        clips = [ClipRows(c, "empty", f"r{n % 7}") for n, c in enumerate(ids[start : start + 1000])]
        write_part(feature_set, clips)
    ledger = feature_set.ledger(ids)
    assert ledger.reasons == [f"r{n % 1000 % 7}" for n in range(3000)]
    assert (feature_set.ledger([f"x{c}" for c in ids]).status == Status.MISSING).all()


def test_the_order_of_the_ids_is_kept_and_not_worked_out_again(tmp_path, monkeypatch):
    made = make_set(tmp_path)
    names = [f"clip-{n}" for n in np.random.default_rng(1).permutation(500)] + [
        "clip-\u00e9",
        "\u5bb6",
    ]
    write_part(made, dict.fromkeys(names[:300], 1))
    fresh(made).refresh()
    write_part(made, dict.fromkeys(names[300:], 1) | {"zz": 2})
    fresh(made).refresh()
    index = fresh(made).index
    sorting = np.argsort
    monkeypatch.setattr(np, "argsort", lambda *a, **k: pytest.fail("sorted again"))
    assert list(index.ok_ids) == sorted([*names, "zz"])
    monkeypatch.setattr(np, "argsort", sorting)
    for wrong in (index.by_id[::-1], np.zeros_like(index.by_id), index.by_id + 1, index.by_id - 1):
        assert replace(index, saved_order=wrong).ok_ids == index.ok_ids


def test_hashes_never_change():
    """They are on disk: another version of the code must find the same clips."""
    expected = [0, 12564970147918729864, 13046820098574664089, 14372908088962884867]
    assert hash_ids(["", "a", "sample_00000001", "片段"]).tolist() == expected
    assert hash_ids([]).tolist() == []
    together = hash_ids(["a", "a" * 200])
    assert together[0] == hash_ids(["a"])[0]
    assert len(set(hash_ids([f"clip{n}" for n in range(50_000)]).tolist())) == 50_000


def test_the_ledger_of_nothing():
    ledger = Ledger.empty(["a", "b"])
    assert ledger.has([18]).tolist() == [[False], [False]]
    assert ledger.status.tolist() == [0, 0]
