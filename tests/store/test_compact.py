"""Compacting and pruning change no answer: values, types, digests, outcomes and reasons stay."""

import os
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from part_factory import digest_of, make_set, ok_clip, part_folder, values_of, write_part
from store_view import view

from mer_store.errors import StoreFullError
from mer_store.store import compact as compact_module
from mer_store.store.compact import compact
from mer_store.store.prune import prune
from mer_store.store.store import Store
from mer_store.store.superseded import Superseded
from mer_store.store.verify import verify
from mer_store.store.writer import ClipRows

CLIPS = ("a", "b", "c", "d", "é")
LAYERS = (18, 19, "embed")
SOME_LAYERS = st.sampled_from([(18, 19), (18, 19), (18, 19), (18,), (18,), LAYERS, (19, "embed")])
OUTCOMES = st.sampled_from(["ok", "ok", "ok", "ok", "failed", "empty"])


@st.composite
def clip_rows(draw, clip_id, layers, tables):
    digest = draw(st.sampled_from(["m1", "m1", "m1", "m2", None]))
    facts = {
        "digest": digest and digest_of(clip_id + digest),
        "n_bytes": draw(st.sampled_from([100, 100, None])),
        "mtime_ns": draw(st.sampled_from([1, 1, 2])),
    }
    status = draw(OUTCOMES)
    if status != "ok":
        return ClipRows(clip_id, status, draw(st.sampled_from(["why", "because"])), **facts)
    n_rows, seed = draw(st.sampled_from([2, 2, 0, 3])), draw(st.sampled_from([0, 0, 1]))
    big = draw(st.sampled_from([1] * 9 + [100]))  # beyond float16: the layer is widened
    return ClipRows(
        clip_id,
        "ok",
        layers={layer: values_of(clip_id, layer, n_rows, seed) * big for layer in layers},
        tables={"images": {"time_s": np.arange(float(seed))}} if tables else {},
        **facts,
    )


@st.composite
def histories(draw):
    parts = []
    tables = draw(st.sampled_from([False, True]))
    for _ in range(draw(st.integers(2, 8))):
        layers = draw(SOME_LAYERS)
        clip_ids = draw(st.lists(st.sampled_from(CLIPS), min_size=1, max_size=2, unique=True))
        clips = [draw(clip_rows(clip_id, layers, tables)) for clip_id in clip_ids]
        parts.append((layers, draw(st.sampled_from([0, 0, 0, 0, 1, 2])), clips))
    return parts


@given(history=histories(), part_clips=st.sampled_from([4, 100]))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_answer_changes(tmp_path_factory, history, part_clips):
    path = tmp_path_factory.mktemp("store")
    feature_set = make_set(path)
    for layers, attempt, clips in history:
        write_part(feature_set, clips, layers, attempt)
    before = view(path, CLIPS, LAYERS)
    store = Store.open(path)
    compact(store, part_clips=part_clips)
    assert view(path, CLIPS, LAYERS) == before
    assert compact(store, part_clips=part_clips) == []
    (feature_set,) = store.feature_sets()
    for part in (known := Superseded(feature_set)).plan():  # one by one: prune may be stopped
        assert known.drop(part)
        (feature_set.path / "commits" / f"{known.index.parts[part].part_id}.json").unlink()
        assert view(path, CLIPS, LAYERS) == before
    assert verify(store, deep=True) == []


def test_what_can_be_joined_only_after_others_were_is_joined_too(tmp_path):
    feature_set = make_set(tmp_path)
    failed = ClipRows("a", "failed", "why", digest_of("a"))
    for layers, clips in (
        ((18, 19), [failed]),
        ((18, 19), [ok_clip("a", (18, 19)), ok_clip("b", (18, 19))]),
        ((18,), [ok_clip("c"), ok_clip("a")]),
        ((18, 19), [ok_clip("c", (18, 19))]),
        ((18,), [ok_clip("b"), failed]),
    ):
        write_part(feature_set, clips, layers)
    before, store = view(tmp_path, CLIPS, LAYERS), Store.open(tmp_path)
    made = compact(store, part_clips=4)
    assert [part.n_clips for part in made] == [3, 3]
    assert len({part.part_id for part in made}) == 2
    assert compact(store, part_clips=4) == []
    assert view(tmp_path, CLIPS, LAYERS) == before


def singles(feature_set, clip_ids, layers=(18, 19), **options):
    return [write_part(feature_set, [ok_clip(c, layers, **options)], layers) for c in clip_ids]


IDS = [f"clip{n:02d}" for n in range(12)]


def test_many_small_parts_become_one_and_the_small_ones_go(tmp_path):
    feature_set = make_set(tmp_path)
    singles(feature_set, IDS)
    write_part(feature_set, [ClipRows("bad", "failed", "truncated", digest_of("bad"))], (18, 19))
    before = view(tmp_path, [*IDS, "bad"], (18, 19))
    (made,) = compact(Store.open(tmp_path))
    assert (made.n_clips, made.n_parts, made.problem) == (13, 13, None)
    assert len(Store.open(tmp_path).feature_sets()[0].part_ids()) == 14
    prune(Store.open(tmp_path), yes=True, older_than_s=0)
    (record,) = Store.open(tmp_path).feature_sets()[0].records()
    assert record.part_id == made.part_id
    assert record.versions == {"numpy": np.__version__}
    assert view(tmp_path, [*IDS, "bad"], (18, 19)) == before
    assert compact(Store.open(tmp_path)) == []
    assert [p.name for p in (feature_set.path / "parts").iterdir()] == [made.part_id]


def test_utterances_and_parts_cut_by_clips(tmp_path):
    feature_set = make_set(tmp_path, level="utterance")
    singles(feature_set, IDS, n_rows=1)
    before = Store.open(tmp_path).features("audio").read([19, 18], IDS)
    made = compact(Store.open(tmp_path), part_clips=5)
    assert [part.n_clips for part in made] == [5, 5, 2]
    prune(Store.open(tmp_path), yes=True, older_than_s=0)
    after = Store.open(tmp_path).features("audio")
    np.testing.assert_array_equal(after.read([19, 18], IDS), before)
    assert len(after.part_ids()) == 3


def test_large_parts_are_left(tmp_path):
    feature_set = make_set(tmp_path)
    write_part(feature_set, dict.fromkeys(IDS[:8], 1))
    write_part(feature_set, dict.fromkeys(IDS[8:], 1))
    assert compact(Store.open(tmp_path), part_clips=12) == []


def test_widened_layers_stay_apart_from_others(tmp_path):
    feature_set = make_set(tmp_path)
    big = ClipRows(
        "big", "ok", digest=digest_of("big"), layers={18: np.full((2, 4), 1e5, np.float32)}
    )
    for other, clips in (("a", [big]), ("b", [])):
        write_part(feature_set, [*clips, ok_clip(other)])
    write_part(feature_set, [ok_clip("c")])
    before = view(tmp_path, ["big", "a", "b", "c"], [18])
    (made,) = compact(Store.open(tmp_path))
    assert made.n_clips == 2  # b and c: float16 both
    assert view(tmp_path, ["big", "a", "b", "c"], [18]) == before


def test_a_reader_of_before_reads_on_while_parts_are_pruned(tmp_path):
    feature_set = make_set(tmp_path)
    singles(feature_set, IDS)
    reader = Store.open(tmp_path).features("audio")
    assert len(reader.index.parts) == 12
    compact(Store.open(tmp_path))
    pruned = prune(Store.open(tmp_path), yes=True)
    assert {(item.why, item.freed) for item in pruned} == {("superseded", False)}
    assert all(0 < item.wait_s <= 3600 for item in pruned)
    assert len(Store.open(tmp_path).features("audio").part_ids()) == 1
    Store.open(tmp_path).sweep()  # does not bring them back
    assert len(Store.open(tmp_path).features("audio").part_ids()) == 1
    for clip_id, rows in zip(IDS, reader.ragged([19], IDS), strict=True):
        np.testing.assert_array_equal(rows[:, 0], values_of(clip_id, 19, 3))


def test_two_compactors_at_once_make_the_same_parts(tmp_path):
    feature_set = make_set(tmp_path)
    singles(feature_set, IDS)
    made = [[], []]
    threads = [
        threading.Thread(target=lambda m=m: m.extend(compact(Store.open(tmp_path)))) for m in made
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {part.part_id for parts in made for part in parts if not part.problem} <= set(
        Store.open(tmp_path).features("audio").part_ids()
    )
    assert len(Store.open(tmp_path).features("audio").part_ids()) == 13
    assert verify(Store.open(tmp_path), deep=True) == []


def test_stopped_between_parts_the_next_run_goes_on(tmp_path, monkeypatch):
    feature_set = make_set(tmp_path)
    singles(feature_set, IDS)
    before = view(tmp_path, IDS, (18, 19))
    real, n = compact_module.CopiedPart.write, []

    def write(self, unit):
        n.append(1)
        if len(n) == 2:
            raise KeyboardInterrupt
        return real(self, unit)

    monkeypatch.setattr(compact_module.CopiedPart, "write", write)
    with pytest.raises(KeyboardInterrupt):
        compact(Store.open(tmp_path), part_clips=4)
    monkeypatch.undo()
    assert view(tmp_path, IDS, (18, 19)) == before
    assert [part.n_clips for part in compact(Store.open(tmp_path), part_clips=4)] == [4, 4]
    prune(Store.open(tmp_path), yes=True, older_than_s=0)
    assert len(Store.open(tmp_path).features("audio").part_ids()) == 3
    assert view(tmp_path, IDS, (18, 19)) == before


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    feature_set = make_set(tmp_path)
    singles(feature_set, IDS[:4])

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "writev", full)
    with pytest.raises(StoreFullError):
        compact(Store.open(tmp_path))
    monkeypatch.undo()
    assert list((feature_set.path / "tmp").iterdir()) == []
    assert verify(Store.open(tmp_path), deep=True) == []
    assert len(compact(Store.open(tmp_path))) == 1


def test_damage_stays_where_it_is(tmp_path):
    feature_set = make_set(tmp_path)
    records = singles(feature_set, IDS[:3])
    path = part_folder(feature_set, records[1]) / "19" / "c" / "0" / "0"
    path.chmod(0o644)
    path.write_bytes(bytes(len(path.read_bytes())))
    (made,) = compact(Store.open(tmp_path))
    assert records[1].part_id in made.problem
    assert len(Store.open(tmp_path).features("audio").part_ids()) == 3
    assert list((feature_set.path / "tmp").iterdir()) == []
