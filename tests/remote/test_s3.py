"""Through two S3 servers: one that honours conditional writes, one that silently ignores them."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from part_factory import make_spec
from remote.stores import add_part, bucket_at, clean, make_store, numbers, pull, push, same

from mer_store.remote.side import RemoteSide
from mer_store.remote.trying import TransferError
from mer_store.store.store import Store


def committed(url):
    return {key: parts for key, parts in RemoteSide(bucket_at(url)).listing().items() if parts}


def test_what_was_pushed_is_pulled_bit_by_bit(s3, tmp_path):
    store = make_store(tmp_path / "a")
    make_store(tmp_path / "a", parts=1, modality="visual", level="frame")
    url = f"{s3.url}/team/mer2024"
    moved = push(store, url)
    assert (moved.n_parts, moved.n_clips, moved.problems) == (3, 12, ())
    other = Store.create(tmp_path / "b")
    assert pull(other, url).n_parts == 3
    assert clean(other)
    for modality in ("audio", "visual"):
        assert same(numbers(other, modality), numbers(store, modality))


def test_nothing_moves_twice(moto_bucket, tmp_path):
    store = make_store(tmp_path / "a")
    push(store, moto_bucket.url)
    assert push(store, moto_bucket.url).n_bytes == 0
    other = Store.create(tmp_path / "b")
    pull(other, moto_bucket.url)
    assert pull(other, moto_bucket.url).n_parts == 0
    add_part(store.features("audio"), 100, 2)
    assert push(store, moto_bucket.url).n_parts == 1
    assert pull(other, moto_bucket.url).n_clips == 2


def test_stores_that_grew_apart_become_their_union(moto_bucket, tmp_path):
    one = make_store(tmp_path / "a", first=0)
    two = make_store(tmp_path / "b", first=6)
    make_store(tmp_path / "b", parts=1, modality="text")
    push(one, moto_bucket.url)
    push(two, moto_bucket.url)
    for store in (one, two):
        pull(store, moto_bucket.url)
        assert clean(store)
    assert len(numbers(one)) == 14  # c0-c7 and c6-c13
    assert same(numbers(one), numbers(two))
    assert same(numbers(one, "text"), numbers(two, "text"))


def test_two_push_the_same_part_with_other_bytes(s3, tmp_path):
    stores = [Store.create(tmp_path / name) for name in "ab"]
    for number, store in enumerate(stores):
        feature_set = store.ensure(make_spec("utterance"))
        add_part(feature_set, 0, 4, mtime_ns=100 + number)
        add_part(feature_set, 50 + 10 * number, 4)
    assert {*_records(stores[0])} & {*_records(stores[1])}  # one name
    assert _records(stores[0]) != _records(stores[1])
    gate = threading.Barrier(2)

    def start(store):
        gate.wait(10)
        return push(store, s3.url)

    with ThreadPoolExecutor(2) as pool:
        for moved in pool.map(start, stores):
            assert moved.problems == ()
    third = Store.create(tmp_path / "c")
    moved = pull(third, s3.url)
    assert moved.problems == ()
    assert clean(third)
    mine = numbers(third)
    for store in stores:
        for clip_id, rows in numbers(store).items():
            assert (mine[clip_id] == rows).all()


def _records(store):
    records = store.features("audio").records()
    return {record.part_id: record.to_json() for record in records}


def test_five_at_once_with_parts_of_their_own(moto_bucket, tmp_path):
    stores = [make_store(tmp_path / str(n), parts=1, first=10 * n) for n in range(5)]
    with ThreadPoolExecutor(5) as pool:
        for moved in pool.map(lambda store: push(store, moto_bucket.url), stores):
            assert moved.problems == ()
    third = Store.create(tmp_path / "c")
    assert pull(third, moto_bucket.url).n_parts == 5
    assert clean(third)


def test_a_conditional_write_has_one_winner_where_the_server_keeps_the_condition(s3):
    bucket = bucket_at(s3.url)
    gate = threading.Barrier(8)

    def write(number):
        bucket.exists("x")
        gate.wait(10)
        return bucket.put_new("x", b"%d" % number)

    with ThreadPoolExecutor(8) as pool:
        wins = sum(pool.map(write, range(8)))
    assert wins == 1 if s3.name == "moto" else wins >= 1
    assert bucket.put_new("x", b"late") is False


def test_ranges_of_objects(s3):
    bucket = bucket_at(s3.url)
    data = bytes(range(256)) * 40
    bucket.put("deep/er/x", [data[:5000], data[5000:]])
    assert bucket.get("deep/er/x", len(data)) == data
    for start, stop in ((0, 1), (100, 300), (10_000, 10_240), (10_239, 10_240), (7, 7)):
        assert bucket.get_range("deep/er/x", start, stop) == data[start:stop]
    with pytest.raises(TransferError, match=r"deep/er/x.*expected 20 bytes"):
        bucket.get_range("deep/er/x", 10_230, 10_250)
    with pytest.raises(TransferError, match="at most 100 bytes"):
        bucket.get("deep/er/x", 100)
    with pytest.raises(FileNotFoundError):
        bucket.get("deep/er/y", 100)
    assert bucket.names("deep") == {"er": None}
    assert bucket.sizes("deep") == {"er/x": len(data)}
    assert bucket.names("nowhere") == {} == bucket.sizes("nowhere")


def test_an_object_of_several_pieces_appears_whole_or_not_at_all(s3):
    bucket = bucket_at(s3.url)
    block = bytes(8 * 2**20)

    def broken():
        for _ in range(6):
            yield block
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        bucket.put("big", broken())
    assert not bucket.exists("big")
    bucket.put("big", [block] * 6)
    assert bucket.sizes("") == {"big": 6 * len(block)}


def test_a_bucket_that_is_not_there_is_named(s3, tmp_path):
    store = make_store(tmp_path / "a", parts=1)
    with pytest.raises(TransferError, match=r"s3://no-such-bucket/x.*make the bucket first"):
        push(store, "s3://no-such-bucket/x")


def test_a_key_that_does_not_fit_is_told_without_the_key(
    rclone, moto_bucket, monkeypatch, tmp_path
):
    store = make_store(tmp_path / "a", parts=1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", rclone.url)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret-at-all")
    with pytest.raises(TransferError, match=r"credentials|Forbidden|denied") as caught:
        push(store, f"{moto_bucket.url}/x")
    assert "not-the-secret-at-all" not in str(caught.value)


def test_a_remote_list_is_never_pushed(moto_bucket, tmp_path):
    from mer_store.remote.names import add_remote

    store = make_store(tmp_path / "a", parts=1)
    add_remote(store.path, "origin", "s3://user@elsewhere/x")
    push(store, moto_bucket.url)
    bucket = bucket_at(moto_bucket.url)
    names = bucket.sizes("")
    assert not any("remotes" in name for name in names)
    assert not any(b"elsewhere" in bucket.get(name, 1 << 20) for name in names)
    assert committed(moto_bucket.url)
