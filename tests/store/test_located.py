"""Many clips found at once, and read as they lie on disk."""

import numpy as np
import pytest
from part_factory import make_set, ok_clip, part_folder, values_of, write_part

from mer_store.errors import StoreDamagedError, UsageError
from mer_store.store import gather
from mer_store.store.asked import Asked
from mer_store.store.writer import ClipRows

LAYERS = (17, 18)


@pytest.fixture
def feature_set(tmp_path):
    made = make_set(tmp_path / "store", "utterance")
    for number in range(4):
        names = [f"{number}-{clip}" for clip in "cabed"]
        write_part(made, [ok_clip(name, LAYERS, 1) for name in names], LAYERS)
    write_part(made, [ok_clip("half", (18,), 1), ClipRows("none", "empty", "no face")], (18,))
    return made


def ids_of(rng, n_unknown=3):
    ids = [f"{number}-{clip}" for number in range(4) for clip in "abcde"]
    return rng.permutation([*ids, "half", "none", *(f"x{n}" for n in range(n_unknown))]).tolist()


@pytest.mark.parametrize("threaded", [False, True])
def test_rows_are_those_of_the_clips_whatever_the_order(feature_set, monkeypatch, threaded):
    monkeypatch.setattr(gather, "THREADED_BYTES", 0 if threaded else 2**40)
    for seed in range(3):
        ids = ids_of(np.random.default_rng(seed))
        located = feature_set.locate(LAYERS, ids)
        values = located.read()
        assert values.shape == (20, 2, 4)
        assert located.there.tolist() == ["-" in clip_id for clip_id in ids]
        assert sorted(located.row[located.there].tolist()) == list(range(20))
        for clip_id, row in zip(ids, located.row.tolist(), strict=True):
            if row >= 0:
                expected = np.concatenate([values_of(clip_id, layer, 1) for layer in LAYERS])
                assert (values[row] == expected).all()


def test_media_are_those_of_the_clips_in_the_list_s_order(feature_set):
    located = feature_set.locate([18], ["3-a", "nobody", "half", "0-e"])
    expected = [feature_set.ledger([clip_id]).digest[0] for clip_id in ("3-a", "half", "0-e")]
    assert [digest.decode() for digest in located.media] == expected


def test_ids_made_ready_once_serve_any_feature_set(feature_set, tmp_path):
    other = make_set(tmp_path / "other", "utterance")
    write_part(other, [ok_clip("3-a", LAYERS, 1), ok_clip("x1", LAYERS, 1)], LAYERS)
    ids = ids_of(np.random.default_rng(5))
    asked = Asked.of(ids)
    assert Asked.of(asked) is asked
    for some in (feature_set, other):
        ready, plain = some.locate(LAYERS, asked), some.locate(LAYERS, ids)
        assert (ready.row == plain.row).all()
        assert (ready.serving == plain.serving).all()


def test_a_clip_asked_for_twice_is_given_twice(feature_set, monkeypatch):
    monkeypatch.setattr(gather, "THREADED_BYTES", 0)
    ids = ["1-a", "1-b", "1-c", "1-a", "1-d", "1-a", "2-a", "2-a", "2-b", "2-c"]
    values = feature_set.read([18], ids)
    for clip_id, row in zip(ids, values, strict=True):
        assert (row == values_of(clip_id, 18, 1)).all()


def test_damage_found_beside_other_parts_names_the_clips(tmp_path, monkeypatch):
    monkeypatch.setattr(gather, "THREADED_BYTES", 0)
    made = make_set(tmp_path / "store", "utterance")
    records = [
        write_part(made, [ok_clip(f"{number}-{clip}", (18,), 1) for clip in "ab"], (18,))
        for number in range(3)
    ]
    shard = next((part_folder(made, records[1]) / "18").rglob("c/0/0"))
    shard.chmod(0o644)
    data = bytearray(shard.read_bytes())
    data[3] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(StoreDamagedError, match=r"layer 18, clips 1-a, 1-b"):
        made.locate([18], [f"{number}-{clip}" for number in range(3) for clip in "ab"]).read()


def test_nothing_is_found_where_nothing_is(feature_set):
    located = feature_set.locate([18], ["nobody"])
    assert not located.there.any()
    assert feature_set.locate([99], ["0-a"]).row.tolist() == [-1]
    with pytest.raises(UsageError, match="no layer asked for"):
        feature_set.locate([], ["0-a"])
