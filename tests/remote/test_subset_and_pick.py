"""A piece of a store: some layers of everything, or everything of some clips."""

import numpy as np
import pytest
from click.testing import CliRunner
from part_factory import make_spec, ok_clip, write_part
from remote.stores import bucket_at, clean, make_store, numbers, push, same

from mer_store.cli.main import cli
from mer_store.errors import UsageError
from mer_store.remote import plan, span_reader
from mer_store.remote.address import Address
from mer_store.remote.selection import Selection
from mer_store.remote.transfer import Transfer
from mer_store.store.store import Store
from mer_store.store.writer import ClipRows

LAYERS = (16, 17, 18)
N_CLIPS = 60


@pytest.fixture
def shared(tmp_path):
    """Return a store with frames, rows, failures and side tables, and its remote."""
    store = Store.create(tmp_path / "a")
    rng = np.random.default_rng(1)
    for first in (0, N_CLIPS):
        clips = [
            ok_clip(
                f"c{n}",
                LAYERS,
                int(rng.integers(1, 6)),
                tables={"images": {"box": np.full((n % 3, 4), n, np.int32)}},
                width=64,
            )
            for n in range(first, first + N_CLIPS)
        ]
        clips.append(ClipRows(f"bad{first}", "failed", reason="no stream"))
        write_part(store.ensure(make_spec("frame")), clips, LAYERS)
    make_store(tmp_path / "a", parts=1, modality="visual")
    url = f"memory://{tmp_path.name}"
    push(store, url)
    return store, url


def pull(store, url, **selection):
    with Transfer() as transfer:
        return transfer.pull(store, Address.parse(url), Selection(**selection))


def table(store, layers=LAYERS):
    return numbers(store, "audio", layers)


def test_one_modality(shared, tmp_path):
    store, url = shared
    other = Store.create(tmp_path / "b")
    _, moved = pull(other, url, modality="visual")
    assert moved.n_parts == 1
    assert [one.spec.modality for one in other.feature_sets()] == ["visual"]
    assert same(numbers(other, "visual"), numbers(store, "visual"))


def test_one_layer_of_everything(shared, tmp_path):
    store, url = shared
    other = Store.create(tmp_path / "b")
    _, moved = pull(other, url, modality="audio", layers="18")
    assert (moved.n_parts, moved.problems) == (2, ())
    assert clean(other)
    there = other.features("audio")
    assert there.layers == (18,)
    assert same(table(other, (18,)), table(store, (18,)))
    whole = sum(record.n_bytes for record in store.features("audio").records())
    assert moved.n_bytes < whole * 0.5
    assert dict(_outcomes(there)) == dict(_outcomes(store.features("audio")))
    assert _boxes(there) == _boxes(store.features("audio"))
    assert pull(other, url, modality="audio", layers="18")[1].n_parts == 0


def _outcomes(feature_set):
    return [(clip_id, (status, reason)) for clip_id, status, reason in feature_set.outcomes()]


def _boxes(feature_set):
    ids = sorted(feature_set.clip_ids)
    return {
        i: t["box"].tolist() for i, t in zip(ids, feature_set.table("images", ids), strict=True)
    }


def test_the_rest_of_the_layers_later(shared, tmp_path):
    store, url = shared
    other = Store.create(tmp_path / "b")
    pull(other, url, modality="audio", layers="18")
    pull(other, url, modality="audio")
    assert clean(other)
    assert same(table(other), table(store))


def test_two_who_take_the_same_layer_make_the_same_part(shared, tmp_path):
    _, url = shared
    made = []
    for name in "bc":
        other = Store.create(tmp_path / name)
        pull(other, url, modality="audio", layers="17")
        made.append([record.to_json() for record in other.features("audio").records()])
    assert made[0] == made[1]


@pytest.mark.parametrize("request_bytes", [64, 1 << 18], ids=["ranges", "whole files"])
def test_everything_of_some_clips(shared, tmp_path, monkeypatch, request_bytes):
    store, url = shared
    for module in (plan, span_reader):
        monkeypatch.setattr(module, "REQUEST_BYTES", request_bytes)
    ids = frozenset(["c3", "c17", "c70", f"bad{N_CLIPS}", "not there"])
    other = Store.create(tmp_path / "b")
    found, moved = pull(other, url, modality="audio", clip_ids=ids)
    assert (moved.n_parts, moved.problems) == (2, ())
    assert clean(other)
    right = table(store)
    mine = table(other)
    assert all(np.array_equal(rows, right[clip_id]) for clip_id, rows in mine.items())
    words = " ".join(found.notes)
    n_bytes = sum(record.n_bytes for record in store.features("audio").records())
    if request_bytes == 64:
        assert set(mine) == {"c3", "c17", "c70"}
        assert dict(_outcomes(other.features("audio"))).keys() == ids - {"not there"}
        assert moved.n_bytes < n_bytes / 3
        assert "2 parts by ranges of clips; 0 by whole layer files" in words
        boxes = _boxes(store.features("audio"))
        assert _boxes(other.features("audio")) == {i: boxes[i] for i in mine}
    else:
        assert mine.keys() == right.keys()
        assert "0 parts by ranges of clips; 2 by whole layer files" in words
    assert pull(other, url, modality="audio", clip_ids=ids)[1].n_parts == 0


def test_one_layer_of_some_clips(shared, tmp_path, monkeypatch):
    store, url = shared
    monkeypatch.setattr(plan, "REQUEST_BYTES", 64)
    other = Store.create(tmp_path / "b")
    ids = frozenset(["c1", "c2", "c99"])
    pull(other, url, modality="audio", layers="16-17", clip_ids=ids)
    assert clean(other)
    assert other.features("audio").layers == (16, 17)
    right = table(store, (16, 17))
    assert same(table(other, (16, 17)), {clip_id: right[clip_id] for clip_id in ids})


def test_a_clip_that_comes_wrong_is_not_kept(shared, tmp_path, monkeypatch):
    store, url = shared
    monkeypatch.setattr(plan, "REQUEST_BYTES", 64)
    bucket = bucket_at(url)
    for name in bucket.sizes(""):
        if "/audio/" in name and name.endswith("/17/c/0/0"):
            data = bytearray(bucket.get(name, 1 << 24))
            data[5] ^= 1  # of the part's first clip
            bucket.overwrite(name, bytes(data))
    other = Store.create(tmp_path / "b")
    _, moved = pull(other, url, modality="audio", clip_ids=frozenset(["c0"]))
    assert moved.n_parts == 0
    assert "layer 17" in moved.problems[0] or "17/c/0/0" in moved.problems[0]
    _, moved = pull(other, url, modality="audio", clip_ids=frozenset(["c1"]))
    assert moved.problems == ()
    assert same(table(other), {"c1": table(store)["c1"]})


def test_what_nothing_fits(shared, tmp_path):
    _, url = shared
    other = Store.create(tmp_path / "b")
    with pytest.raises(UsageError, match=r"(?s)no feature set fits.*audio/tiny-frame"):
        pull(other, url, model="hubert")
    with pytest.raises(UsageError, match=r"layers '3'.*it holds"):
        pull(other, url, modality="audio", layers="3")


def test_a_layer_is_pushed_alone(shared, tmp_path):
    store, _ = shared
    url = f"memory://{tmp_path.name}-layer"
    push(store, url, modality="audio", layers="17")
    other = Store.create(tmp_path / "b")
    pull(other, url)
    assert clean(other)
    assert same(table(other, (17,)), table(store, (17,)))


def test_the_command(shared, tmp_path):
    store, url = shared
    (tmp_path / "some.csv").write_text("clip_id,path\nc5,c5.wav\nc6,c6.wav\n")
    words = ["pull", url, "--store", str(tmp_path / "b"), "--modality", "audio", "--layers", "18"]
    words += ["--clips", str(tmp_path / "some.csv")]
    result = CliRunner().invoke(cli, words, standalone_mode=False)
    assert result.exception is None, result.output
    assert "parts by ranges of clips" in result.stderr
    mine, right = table(Store.open(tmp_path / "b"), (18,)), table(store, (18,))
    assert all(np.array_equal(mine[clip_id], right[clip_id]) for clip_id in ("c5", "c6"))
