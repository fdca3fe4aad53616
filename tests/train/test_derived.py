"""Derived feature sets: what is missing is computed, what is known of clips is carried over."""

from dataclasses import replace

import numpy as np
import pytest
from part_factory import digest_of, make_set, make_spec, ok_clip, values_of, write_part

from mer_store.errors import MerStoreError, UsageError
from mer_store.store.ledger import Status
from mer_store.store.store import Store
from mer_store.store.verify import verify
from mer_store.store.writer import ClipRows
from pipelines.train.derived import Derivation, write_derived

LAYERS = (17, 18)
NAMES = ["a", "b", "c", "d", "e"]


class Doubling:
    """Twice layer 18, and how often it was asked for which clips."""

    def __init__(self):
        self.calls = []

    def __call__(self, values):
        self.calls.append(values)
        return {"twice": values[:, 1].astype(np.float32) * 2}


@pytest.fixture
def base(tmp_path):
    feature_set = make_set(tmp_path / "store", "utterance")
    clips = [ok_clip(name, LAYERS, 1) for name in "acd"]
    clips.append(ClipRows("b", "empty", "no speech", digest=digest_of("b"), n_bytes=3, mtime_ns=4))
    clips.append(ClipRows("e", "failed", "cannot be opened"))
    write_part(feature_set, clips, LAYERS)
    return feature_set


@pytest.fixture
def store(base, tmp_path):
    return Store.open(tmp_path / "store")


def derivation(base, compute=None, **changes):
    spec = replace(
        base.spec, recipe="twice", preprocessing={**base.spec.preprocessing, "twice": {"by": 2}}
    )
    given = {"reads": LAYERS, "spec": spec, "layers": ("twice",), "compute": compute or Doubling()}
    return Derivation(base, **given | changes)


def parts(feature_set):
    return len(feature_set.part_ids())


def test_what_is_derived_is_read_as_any_other_feature_set(store, base):
    write_derived(store, derivation(base))
    found = store.features("audio", recipe="twice")
    assert (found.layers, found.clip_ids) == (("twice",), ("a", "c", "d"))
    expected = np.stack([2 * values_of(name, 18, 1) for name in "dac"])
    assert np.array_equal(found.read(["twice"], ["d", "a", "c"]), expected)
    assert verify(store, deep=True) == []


def test_the_ledger_carries_digests_sizes_and_reasons(store, base):
    ledger = write_derived(store, derivation(base)).ledger(NAMES)
    known = base.ledger(NAMES)
    assert ledger.status.tolist() == [
        Status.OK, Status.EMPTY, Status.OK, Status.OK, Status.FAILED
    ]  # fmt: skip
    assert ledger.reasons == [None, "no speech", None, None, "cannot be opened"]
    assert ledger.digest.tolist() == known.digest.tolist()
    assert ledger.digest.tolist()[0] == digest_of("a")
    assert ledger.n_bytes.tolist() == [100, 3, 100, 100, -1]
    assert ledger.mtime_ns.tolist() == known.mtime_ns.tolist()


def test_a_second_call_writes_nothing(store, base):
    compute = Doubling()
    found = write_derived(store, derivation(base, compute))
    assert parts(write_derived(store, derivation(base, compute))) == parts(found) == 1
    assert len(compute.calls) == 1


def test_only_what_is_new_or_changed_is_computed(store, base):
    write_derived(store, derivation(base))
    changed = ok_clip("a", LAYERS, 1, seed=1, digest=digest_of("changed"))
    write_part(base, [changed], LAYERS, attempt=1)
    write_part(base, [ok_clip("f", LAYERS, 1)], LAYERS)
    compute = Doubling()
    found = write_derived(store, derivation(base, compute))
    assert [len(call) for call in compute.calls] == [2]
    assert np.array_equal(found.read(["twice"], ["a"])[0], 2 * values_of("a", 18, 1, seed=1))
    ledger = found.ledger(["a", "f", "c"])
    assert ledger.digest.tolist()[0] == digest_of("changed")
    assert ledger.attempt.tolist() == [1, 1, 0]
    assert parts(write_derived(store, derivation(base))) == 2


def test_a_clip_that_failed_and_is_there_now_is_derived(store, base):
    write_derived(store, derivation(base))
    write_part(base, [ok_clip("e", LAYERS, 1)], LAYERS, attempt=1)
    found = write_derived(store, derivation(base))
    assert "e" in found.clip_ids
    assert parts(write_derived(store, derivation(base))) == 2


def test_a_clip_that_lacks_a_layer_is_left_for_later(store, base):
    write_part(base, [ok_clip("g", (18,), 1)], (18,))
    found = write_derived(store, derivation(base))
    assert found.ledger(["g"]).status.tolist() == [Status.MISSING]
    write_part(base, [ok_clip("g", (17,), 1)], (17,))
    assert "g" in write_derived(store, derivation(base)).clip_ids


def test_pieces_are_bounded_and_clips_can_be_chosen(store, base):
    compute = Doubling()
    found = write_derived(store, derivation(base, compute), ["d", "a", "unknown"], part_clips=1)
    assert [call.shape for call in compute.calls] == [(1, 2, 4)] * 2
    assert found.clip_ids == ("a", "d")
    assert found.ledger(["b", "unknown"]).status.tolist() == [Status.MISSING] * 2
    assert parts(write_derived(store, derivation(base))) == 3


def test_a_part_of_clips_without_features_computes_nothing(store, base):
    compute = Doubling()
    found = write_derived(store, derivation(base, compute), ["b", "e"])
    assert found.ledger(["b", "e"]).status.tolist() == [Status.EMPTY, Status.FAILED]
    assert compute.calls == []


def test_values_that_are_no_numbers_blame_what_computed_them(store, base):
    def broken(values):
        rows = values[:, 0].astype(np.float32)
        rows[1, 2] = np.nan
        return {"twice": rows}

    with pytest.raises(MerStoreError, match=r"layer twice of clip c came out as NaN.*\(1 clips"):
        write_derived(store, derivation(base, broken))
    assert parts(store.ensure(derivation(base).spec)) == 0


def test_frames_are_refused(tmp_path):
    frames = make_set(tmp_path / "store", "frame")
    with pytest.raises(UsageError, match="utterance level"):
        derivation(frames, spec=make_spec("utterance"))
