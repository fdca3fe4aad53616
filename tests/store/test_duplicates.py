"""Two parts may hold the same clip: every reader picks the same one, in whatever order they came."""

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from part_factory import digest_of, make_set, make_spec, ok_clip, values_of, write_part

from mer_store.store.index import Index
from mer_store.store.ledger import Status
from mer_store.store.store import Store
from mer_store.store.writer import ClipRows


def copy_commits(source, target):
    """Merge two stores the way anybody may: copy what the other one lacks."""
    for folder in ("parts", "commits"):
        for entry in (source.path / folder).iterdir():
            place = target.path / folder / entry.name
            if not place.exists():
                (shutil.copytree if entry.is_dir() else shutil.copy2)(entry, place)


def seen_by(feature_set, clip_ids, layers=(18, 19)):
    """All that a reader can tell about the clips."""
    ledger = feature_set.ledger(clip_ids)
    rows = {
        (clip_id, layer): feature_set.ragged([layer], [clip_id])[0].tolist()
        for clip_id, has in zip(clip_ids, ledger.has(layers), strict=True)
        for layer, there in zip(layers, has, strict=True)
        if there
    }
    facts = ledger.status, ledger.digest, ledger.n_bytes, ledger.mtime_ns, ledger.attempt
    return [column.tolist() for column in facts], ledger.reasons, rows


CLIPS = ("a", "b", "c")
ROWS = st.one_of(
    st.tuples(st.just("ok"), st.sampled_from(["v1", "v2"])),
    st.tuples(st.sampled_from(["failed", "empty"]), st.sampled_from(["v1", "v2", None])),
)
PARTS = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(CLIPS), ROWS, min_size=1),
        st.sampled_from([(18,), (19,), (18, 19)]),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=6,
)


def commit(feature_set, number, part):
    clips, layers, attempt = part
    made = []
    for clip_id, (status, version) in clips.items():
        digest = digest_of(version) if version else None
        if status == "ok":
            made.append(ok_clip(clip_id, layers, 2, seed=number, digest=digest))
        else:
            made.append(ClipRows(clip_id, status, f"reason {number}", digest))
    return write_part(feature_set, made, layers, attempt)


def expected_by_the_rule(records, clip_id):
    """The rule for duplicates, written as it reads."""
    rows = [(r, row) for r in records for row in r.ledger if row.clip_id == clip_id]
    if not rows:
        return Status.MISSING, None, {}, -1

    def precedence(pair):
        return -pair[0].attempt, pair[0].part_id

    deciding = min([p for p in rows if p[1].digest] or rows, key=precedence)[1]
    current = [p for p in rows if p[1].digest == deciding.digest and p[1].status == "ok"]
    served = {}
    for record, _ in sorted(current, key=precedence):
        for layer in record.layers:
            served.setdefault(layer, record.part_id)
    status = Status.OK if current else Status[deciding.status.upper()]
    return status, deciding.digest, served, max(r.attempt for r, _ in rows)


@settings(max_examples=40, deadline=None)
@given(parts=PARTS, random=st.randoms(use_true_random=False))
def test_the_rule_holds_in_any_order(tmp_path_factory, parts, random):
    path = tmp_path_factory.mktemp("store")
    feature_set = make_set(path)
    records = {r.part_id: r for r in (commit(feature_set, n, p) for n, p in enumerate(parts))}
    numbers = list(range(len(parts)))
    random.shuffle(numbers)
    merged = make_set(path / "merged")
    for number in numbers:  # the index is extended part by part
        one = make_set(path / f"one{number}")
        commit(one, number, parts[number])
        keep = {r.part_id for r in one.records()} & records.keys()
        if records[next(iter(keep))].to_json() == one.records()[0].to_json():
            copy_commits(one, merged)
        merged.refresh()
        merged.ledger(CLIPS)
    copy_commits(feature_set, merged)
    merged.refresh()
    assert seen_by(merged, CLIPS) == seen_by(feature_set, CLIPS)
    rows, index = feature_set.index.rows, feature_set.index
    ledger = feature_set.ledger(CLIPS)
    for number, clip_id in enumerate(CLIPS):
        status, digest, served, attempt = expected_by_the_rule(records.values(), clip_id)
        assert (ledger.status[number], ledger.digest[number]) == (status, digest)
        assert ledger.attempt[number] == attempt
        for layer in (18, 19):
            assert ledger.has([layer])[number, 0] == (layer in served)
            if layer in served:
                serving = index.column(str(layer))[index.find([clip_id])[0]]
                assert index.parts[rows["part"][serving]].part_id == served[layer]


def test_merging_two_stores_is_the_union_of_their_parts(tmp_path):
    left, right = make_set(tmp_path / "left"), make_set(tmp_path / "right")
    write_part(left, {"a": 2, "b": 3})
    write_part(right, [ok_clip("b", n_rows=3, seed=1), ok_clip("c", n_rows=1)])
    both, htob = make_set(tmp_path / "both"), make_set(tmp_path / "htob")
    for source in (left, right):
        copy_commits(source, both)
    for source in (right, left):
        copy_commits(source, htob)
    assert both.clip_ids == ("a", "b", "c")
    for one, other in zip(both.ragged([18]), htob.ragged([18]), strict=True):
        np.testing.assert_array_equal(one, other)


def test_versions_of_media_are_never_mixed(tmp_path):
    feature_set = make_set(tmp_path)
    write_part(feature_set, [ok_clip("a", (18, 19), digest="sha256:old")], (18, 19))
    write_part(feature_set, [ok_clip("a", (19,), seed=1, digest="sha256:new")], (19,), attempt=1)
    ledger = feature_set.ledger(["a"])
    assert ledger.digest[0] == "sha256:new"
    assert ledger.has([18, 19]).tolist() == [[False, True]]
    np.testing.assert_array_equal(feature_set.ragged([19])[0][:, 0], values_of("a", 19, 3, seed=1))


def test_a_missing_file_does_not_hide_what_was_extracted(tmp_path):
    feature_set = make_set(tmp_path)
    write_part(feature_set, {"a": 2})
    write_part(feature_set, [ClipRows("a", "failed", "no such file")], attempt=1)
    ledger = feature_set.ledger(["a"])
    assert (ledger.status[0], ledger.attempt[0], ledger.reasons) == (Status.OK, 1, [None])


def test_a_failure_at_new_media_makes_old_rows_stale(tmp_path):
    feature_set = make_set(tmp_path)
    write_part(feature_set, {"a": 2})
    failed = ClipRows("a", "failed", "truncated", "sha256:new", 7, 8)
    write_part(feature_set, [failed], attempt=1)
    ledger = feature_set.ledger(["a"])
    assert (ledger.status[0], ledger.reasons, ledger.n_bytes[0]) == (
        Status.FAILED,
        ["truncated"],
        7,
    )
    assert not ledger.has([18]).any()


@pytest.mark.parametrize("n_buckets", [1, 3])
def test_ids_that_share_a_hash_are_kept_apart(tmp_path, monkeypatch, n_buckets):
    from mer_store.store import asked, index_rows

    def crowded(clip_ids):
        return np.array([len(clip_id) % n_buckets for clip_id in clip_ids], dtype=np.uint64)

    monkeypatch.setattr(index_rows, "hash_ids", crowded)
    monkeypatch.setattr(asked, "hash_ids", crowded)
    feature_set = make_set(tmp_path)
    ids = [f"clip{'x' * n}{m}" for n in range(3) for m in range(4)]
    write_part(feature_set, [ok_clip(c, digest="sha256:old") for c in ids])
    write_part(feature_set, [ok_clip(c, seed=1, digest="sha256:new") for c in ids[::2]], attempt=1)
    asked = [*ids[::-1], "clip", "clipx9", "zzzz"]
    ledger = feature_set.ledger(asked)
    expected = ["sha256:new" if c in ids[::2] else "sha256:old" for c in ids[::-1]]
    assert ledger.digest.tolist() == [*expected, None, None, None]


def test_ids_of_any_script(tmp_path):
    feature_set = make_set(tmp_path, "utterance")
    ids = ["片段_01", "clip", "é", "𝄞" * 60]
    write_part(feature_set, dict.fromkeys(ids, 1))
    feature_set.refresh()
    assert feature_set.clip_ids == tuple(sorted(ids))
    np.testing.assert_array_equal(
        feature_set.read([18], ids)[:, 0], [values_of(c, 18, 1)[0] for c in ids]
    )
    assert feature_set.ledger(["片段_02", "\ud800"]).status.tolist() == [0, 0]


def test_an_index_of_nothing():
    index = Index.build([])
    assert index.find(["a"]).tolist() == [-1]
    assert index.ledger(["a"]).status.tolist() == [Status.MISSING]
    assert make_spec().fingerprint


def test_one_store_many_feature_sets(tmp_path):
    store = Store.create(tmp_path)
    for level in ("frame", "utterance"):
        write_part(store.ensure(make_spec(level)), {"a": 1})
    assert [f.spec.level for f in store.feature_sets()] == ["frame", "utterance"]
