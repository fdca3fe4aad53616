"""A store read where it is: right numbers, few requests, a cache that is bounded and never believed."""

import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from click.testing import CliRunner
from part_factory import make_spec, ok_clip, write_part
from remote.stores import add_part, bucket_at, make_store, numbers, push, same

from mer_store.cli.main import cli
from mer_store.errors import StoreDamagedError, UsageError
from mer_store.opening import open_store
from mer_store.remote import span_reader
from mer_store.remote.cache import Cache
from mer_store.store.store import Store

LAYERS = tuple(range(16, 22))
N_CLIPS, N_ASKED = 200, 16
#: float16 rows of a width like a real model's: a request costs little against the file.
WIDTH = 1024


@pytest.fixture(autouse=True)
def cheap_requests(monkeypatch):
    monkeypatch.setattr(span_reader, "REQUEST_BYTES", 64)


@pytest.fixture
def shared(tmp_path):
    """Return a store with a part of many clips, frames and rows, and where it was pushed."""
    store = Store.create(tmp_path / "a")
    rng = np.random.default_rng(3)
    clips = [ok_clip(f"c{n}", LAYERS, int(rng.integers(1, 9)), width=WIDTH) for n in range(N_CLIPS)]
    write_part(store.ensure(make_spec("frame")), clips, LAYERS)
    url = f"memory://{tmp_path.name}"
    push(store, url)
    return store, url


def asked():
    return [f"c{n}" for n in np.random.default_rng(5).choice(N_CLIPS, N_ASKED, replace=False)]


def table(store, ids=None):
    feature_set = store.features("audio")
    ids = ids or feature_set.clip_ids
    return dict(zip(ids, feature_set.ragged(LAYERS, ids), strict=True))


def counted(remote):
    """Return requests and bytes since the last call."""
    now = remote.meter.n_requests, remote.meter.n_bytes_moved
    last = getattr(remote, "last_count", (0, 0))
    remote.last_count = now
    return now[0] - last[0], now[1] - last[1]


def test_a_few_clips_cost_a_request_each_and_their_bytes(shared):
    store, url = shared
    remote, ids = open_store(url), asked()
    mine = table(remote, ids)
    assert same(mine, table(store, ids))
    n_requests, n_bytes = counted(remote)
    assert n_requests <= 1.1 * N_ASKED * len(LAYERS)
    assert n_bytes <= 1.05 * sum(rows.nbytes for rows in mine.values())
    table(remote, ids)
    assert counted(remote) == (0, 0)
    again = open_store(url)
    assert same(table(again, ids), mine)
    assert counted(again) == (0, 0)


def test_all_clips_come_as_whole_files(shared):
    store, url = shared
    remote = open_store(url)
    assert same(table(remote), table(store))
    n_requests, _ = counted(remote)
    assert n_requests < 2 * len(LAYERS)


def test_every_way_of_reading(shared, tmp_path):
    store, url = shared
    add_part(store.ensure(make_spec("utterance")), 0, 20, layers=LAYERS)
    push(store, url)
    remote = open_store(url)
    for which in ("frame", "utterance"):
        here, there = (one.features("audio", level=which) for one in (store, remote))
        assert there.clip_ids == here.clip_ids
        for mine, theirs in zip(there.iter_parts([17]), here.iter_parts([17]), strict=True):
            assert mine[0] == theirs[0]
            assert np.array_equal(mine[2][17], theirs[2][17])
    ids = [f"c{n}" for n in (3, 19, 0)]
    here, there = (one.features("audio", level="utterance") for one in (store, remote))
    assert np.array_equal(there.read(LAYERS, ids), here.read(LAYERS, ids))


def test_threads_read_side_by_side(shared):
    store, url = shared
    remote, right = open_store(url).features("audio"), table(store)

    def read(number):
        ids = [f"c{n}" for n in range(number, N_CLIPS, 8)]
        return dict(zip(ids, remote.ragged(LAYERS, ids), strict=True))

    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(read, range(8)):
            assert same(found, {clip_id: right[clip_id] for clip_id in found})


def test_a_damaged_piece_in_the_cache_is_fetched_anew(shared):
    _, url = shared
    ids = asked()
    remote = open_store(url)
    right = table(remote, ids)
    with sqlite3.connect(remote.cache.folder / "spans.sqlite") as database:
        pieces = database.execute("select file, start, stop, data from spans").fetchall()
        for file, start, stop, data in pieces:
            wrong = bytes([data[0] ^ 1]) + data[1:]
            key = (wrong, file, start, stop)
            database.execute("update spans set data=? where file=? and start=? and stop=?", key)
    database.close()
    again = open_store(url)
    assert same(table(again, ids), right)
    n_requests, _ = counted(again)
    assert n_requests == len(pieces) > 0
    third = open_store(url)
    assert same(table(third, ids), right)
    assert counted(third) == (0, 0)  # what came anew is kept


def test_a_damaged_file_in_the_cache_is_fetched_anew(shared):
    store, url = shared
    right = table(store)
    _, *_ = open_store(url).features("audio").iter_parts(LAYERS)
    files = list(Cache.of(bucket_at(url).address).folder.glob("files/*/1*/c/0/0"))
    assert len(files) == 4  # layers 16-19
    for number, path in enumerate(files):
        path.chmod(0o644)
        data = bytearray(path.read_bytes())
        data[number * 50] ^= 4
        path.write_bytes(data if number % 2 else data[:-7])
    again = open_store(url)
    assert same(table(again), right)
    again = open_store(url)
    assert all(np.array_equal(*pair) for pair in zip(_layer(again), _layer(store), strict=True))


def _layer(store):
    return [rows[17] for _, _, rows in store.features("audio").iter_parts([17])]


def test_what_is_wrong_there_is_told_with_its_part_and_clips(shared):
    store, url = shared
    bucket = bucket_at(url)
    (record,) = store.features("audio").records()
    name = next(name for name in bucket.sizes("") if name.endswith("/18/c/0/0"))
    data = bytearray(bucket.get(name, 1 << 24))
    data[10] ^= 1
    bucket.overwrite(name, bytes(data))
    remote = open_store(url).features("audio")
    with pytest.raises(StoreDamagedError, match=rf"part {record.part_id}.*layer 18, clips c0"):
        remote.ragged([18], ["c0"])
    assert np.array_equal(remote.ragged([17], ["c0"])[0], table(store)["c0"][:, 1:2])
    bucket.remove(name)
    with pytest.raises(StoreDamagedError, match=r"missing, yet its part is committed"):
        open_store(url).features("audio").ragged([18], ["c1"])


def test_the_cache_is_bounded(shared, monkeypatch):
    store, url = shared
    one_file = store.features("audio").records()[0].files["18/c/0/0"].n_bytes
    limit = one_file * 4
    monkeypatch.setenv("MER_STORE_CACHE_BYTES", str(limit))
    remote, right = open_store(url), table(store)
    for clip_id in right:  # by pieces
        remote.features("audio").ragged(LAYERS, [clip_id])
    assert same(table(remote), right)  # by files
    folder = remote.cache.folder
    files = sum(path.stat().st_size for path in folder.glob("files/**/*") if path.is_file())
    assert 0 < files <= limit
    with sqlite3.connect(folder / "spans.sqlite") as database:
        ((pieces,),) = database.execute("select sum(length(data)) from spans")
    database.close()
    assert pieces <= limit / 2
    assert same(table(remote), right)


def test_new_parts_are_seen_after_a_refresh_and_removed_ones_no_more(shared):
    store, url = shared
    remote = open_store(url)
    record = add_part(store.features("audio"), 500, 2, layers=LAYERS, width=WIDTH)
    push(store, url)
    assert "c500" not in remote.features("audio").clip_ids
    remote.refresh()
    assert same(table(remote, ["c500"]), table(store, ["c500"]))
    bucket = bucket_at(url)
    bucket.remove(next(name for name in bucket.sizes("") if f"commits/{record.part_id}" in name))
    remote.refresh()
    assert "c500" not in remote.features("audio").clip_ids


def test_a_forked_process_is_told_to_open_the_store_itself(moto_bucket, tmp_path):
    store = make_store(tmp_path / "a", parts=1)
    push(store, moto_bucket.url)
    program = (
        "import os, sys\nimport mer_store\nfrom mer_store.errors import UsageError\n"
        "store = mer_store.open(sys.argv[1])\n"
        "if os.fork() == 0:\n"
        "    for read in (lambda one: one.ragged([17], ['c0']), lambda one: list(one.iter_parts([17]))):\n"
        "        try:\n            read(store.features('audio'))\n"
        "        except UsageError as error:\n            print(error, flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\nprint(len(store.features('audio').ragged([17], ['c0'])))\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", program, moto_bucket.url],
        env={**os.environ}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert out.stdout.count("opened before a fork: open it again in this process") == 2, out.stderr
    assert out.stdout.endswith("\n1\n")


def test_nothing_is_written_to_a_remote(shared):
    _, url = shared
    with pytest.raises(UsageError, match=r"remote store is read only; give a folder as --store"):
        open_store(url).ensure(make_spec("utterance"))
    words = ["extract", "--modality", "audio", "--store", "s3://team/mer2024"]
    result = CliRunner().invoke(cli, words, standalone_mode=False)
    assert isinstance(result.exception, UsageError)


def test_commands_that_read_accept_a_url(moto_bucket, tmp_path):
    store = make_store(tmp_path / "a", parts=1)
    push(store, moto_bucket.url)
    result = CliRunner().invoke(cli, ["status", "--store", moto_bucket.url], standalone_mode=False)
    assert result.exception is None, result.exception
    assert "17-18" in result.stdout
    assert same(numbers(open_store(moto_bucket.url)), numbers(store))


def test_a_store_that_is_not_there(moto_bucket):
    with pytest.raises(UsageError, match=r"no store there; `mer-store push s3://bucket"):
        open_store(moto_bucket.url)
