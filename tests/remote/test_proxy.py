"""Through a network that breaks things: all arrives right, or it is said what did not."""

import os

import numpy as np
import pytest
from remote.servers import faulty_proxy
from remote.stores import bucket_at, clean, make_store, numbers, pull, push, same

from mer_store.errors import MerStoreError, StoreDamagedError
from mer_store.opening import open_store
from mer_store.store.store import Store
from mer_store.store.verify import verify

#: A network that loses, waits and cuts, in both directions.
ROUGH = {"reset": 0.06, "stall": 0.02, "busy": 0.06, "cut": 0.06}
#: One by default; `MER_STORE_FAULT_SEEDS=50` sweeps.
SEEDS = range(int(os.environ.get("MER_STORE_FAULT_SEEDS", "1")))


def is_listing(request):
    """Tell whether a request is a listing, whose text carries no digest."""
    return "list-type" in request.query


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_broken_off_is_asked_for_again(moto_bucket, tmp_path, monkeypatch, seed):
    monkeypatch.setattr("mer_store.remote.client_options.STALL_S", 1.0)  # less than the proxy's
    store = make_store(tmp_path / "a", parts=3)
    with faulty_proxy(moto_bucket.server.url, ROUGH, seed) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        assert push(store, moto_bucket.url).problems == ()
        other = Store.create(tmp_path / "b")
        assert pull(other, moto_bucket.url).problems == ()
    assert sum(proxy.counts.values()) > 8
    assert set(proxy.counts) == set(ROUGH)
    assert clean(other)
    assert same(numbers(other), numbers(store))


@pytest.mark.parametrize("seed", SEEDS)
def test_flipped_bits_never_get_through(moto_bucket, tmp_path, monkeypatch, seed):
    store = make_store(tmp_path / "a", parts=3)
    push(store, moto_bucket.url)
    other, right, n_flips = Store.create(tmp_path / "b"), numbers(store), 0
    for attempt in range(12):
        with faulty_proxy(
            moto_bucket.server.url, {"flip": 0.3}, seed + 100 * attempt, is_listing
        ) as proxy:
            monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
            moved = _tried(pull, other, moto_bucket.url)
        n_flips += proxy.counts["flip"]
        assert verify(other, deep=True) == []
        for clip_id, rows in _numbers_there(other).items():
            assert np.array_equal(rows, right[clip_id])
        if moved is not None and not moved.problems:
            break
    assert n_flips > 0
    assert same(numbers(other), right)


@pytest.mark.parametrize("seed", SEEDS)
def test_reading_in_place_through_flipped_bits(moto_bucket, tmp_path, monkeypatch, seed):
    store = make_store(tmp_path / "a", parts=2, clips=40)
    push(store, moto_bucket.url)
    right, n_right, n_told = numbers(store), 0, 0
    remote = open_store(moto_bucket.url)
    with faulty_proxy(moto_bucket.server.url, {"flip": 0.4}, seed) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        object.__setattr__(remote.side, "bucket", bucket_at(moto_bucket.url))
        for clip_id in right:
            try:
                rows = remote.features("audio").ragged([17, 18], [clip_id])[0]
            except StoreDamagedError:
                n_told += 1
            else:
                assert np.array_equal(rows, right[clip_id])
                n_right += 1
    assert proxy.counts["flip"] > 0
    assert n_right > 0


@pytest.mark.parametrize("seed", SEEDS)
def test_bits_flipped_on_the_way_up_are_found_by_who_pulls(s3, tmp_path, monkeypatch, seed):
    store = make_store(tmp_path / "a", parts=3)
    with faulty_proxy(s3.server.url, {"flip_up": 0.15}, seed) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        pushed = _tried(push, store, s3.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.server.url)
    assert proxy.counts["flip_up"] > 0
    other, right = Store.create(tmp_path / "b"), numbers(store)
    pulled = _tried(pull, other, s3.url)
    assert verify(other, deep=True) == []
    mine = _numbers_there(other)
    assert all(np.array_equal(rows, right[clip_id]) for clip_id, rows in mine.items())
    is_told = any(moved is None or moved.problems for moved in (pushed, pulled))
    assert is_told or mine.keys() == right.keys()


def _tried(direction, store, url):
    """Return what was moved, None where an error was told."""
    try:
        return direction(store, url)
    except MerStoreError:
        return None


def _numbers_there(store):
    there = [one for one in store.feature_sets() if one.part_ids()]
    return numbers(store) if there else {}
