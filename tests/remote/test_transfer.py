"""Pushes and pulls that are killed, raced or lied to."""

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from part_factory import make_spec
from remote.servers import faulty_proxy
from remote.stores import add_part, bucket_at, clean, make_store, numbers, pull, push, same

from mer_store.cli.main import cli
from mer_store.errors import MerStoreError, UsageError
from mer_store.store.store import Store
from pipelines.serve.app import serving

#: The command with requests so small that a small file takes many.
COMMAND = (
    "import sys, mer_store.remote.fetch as fetch, mer_store.remote.send as send\n"
    "fetch.BLOCK_BYTES = send.BLOCK_BYTES = 1 << 14\n"
    "from mer_store.cli import main\nmain()"
)
LAYERS = tuple(range(8))
WIDTH = 4000


@pytest.fixture
def large(tmp_path):
    """Return a store with one part of eight files of 320 kB."""
    feature_set = Store.create(tmp_path / "a").ensure(make_spec("utterance"))
    add_part(feature_set, 0, 40, layers=LAYERS, width=WIDTH)
    return Store.open(tmp_path / "a")


def killed(words, is_time):
    """Run a command and kill it as soon as `is_time` says so."""
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, *map(str, words)],
        stderr=subprocess.PIPE,
        env={**os.environ},
    ) as process:
        end = time.monotonic() + 60
        while not is_time():
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < end
            time.sleep(0.01)
        process.kill()
        process.communicate()


def table(store):
    return numbers(store, layers=LAYERS)


def test_a_killed_pull_goes_on_where_it_stopped(large, tmp_path):
    there = tmp_path / "b"
    part = large.features("audio").records()[0]

    def is_half():
        files = [path for path in there.glob("features/*/*/tmp/**/*") if path.is_file()]
        return sum(path.stat().st_size for path in files) > part.n_bytes / 3

    with serving(large.path) as url, faulty_proxy(url, {}, 0) as proxy:
        proxy.delay_s = 0.05
        killed(["pull", proxy.url, "--store", there], is_half)
        other = Store.open(there)
        assert not list(there.glob("features/*/*/commits/*"))
        assert not list(there.glob("features/*/*/parts/*"))
        assert list(there.glob("features/*/*/tmp/**/*.partial"))
        proxy.delay_s = 0.0
        moved = pull(other, proxy.url)
    assert moved.problems == ()
    assert moved.n_bytes_kept > part.n_bytes / 5
    assert moved.n_bytes < part.n_bytes * 4 / 5
    assert clean(other)
    assert same(table(other), table(large))
    assert not list(there.glob("features/*/*/tmp/*"))


def test_a_killed_push_goes_on_where_it_stopped(large, moto_bucket, tmp_path, monkeypatch):
    bucket = bucket_at(moto_bucket.url)

    def sent():
        return [name for name in bucket.sizes("") if name.endswith("/c/0/0")]

    assert not sent()  # it is connected now, by no detour
    with faulty_proxy(moto_bucket.server.url, {}, 0) as proxy:
        proxy.delay_s = 0.1
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        killed(["push", moto_bucket.url, "--store", large.path], lambda: len(sent()) >= 2)
        monkeypatch.setenv("AWS_ENDPOINT_URL", moto_bucket.server.url)
    if [name for name in bucket.sizes("") if "/commits/" in name]:
        pytest.skip("it was faster than the signal")
    assert pull(Store.create(tmp_path / "early"), moto_bucket.url).n_parts == 0
    moved = push(large, moto_bucket.url)
    assert moved.n_bytes_kept > 0
    other = Store.create(tmp_path / "b")
    assert pull(other, moto_bucket.url).n_parts == 1
    assert clean(other)
    assert same(table(other), table(large))


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_there_and_back(tmp_path, kind):
    one, two = make_store(tmp_path / "a"), make_store(tmp_path / "b", first=6)
    url = str(tmp_path / "usb") if kind == "folder" else f"memory://{tmp_path.name}"
    for store in (one, two):
        push(store, url)
    for store in (one, two):
        pull(store, url)
        assert clean(store)
    assert same(numbers(one), numbers(two))
    assert len(numbers(one)) == 14
    if kind == "folder":
        assert clean(Store.open(url))


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_two_pull_into_one_store(tmp_path, kind):
    store = make_store(tmp_path / "a", parts=4)
    url = str(tmp_path / "usb") if kind == "folder" else f"memory://{tmp_path.name}"
    push(store, url)
    Store.create(tmp_path / "b")
    gate = threading.Barrier(2)

    def start(_):
        gate.wait(10)
        return pull(Store.open(tmp_path / "b"), url)

    with ThreadPoolExecutor(2) as pool:
        for moved in pool.map(start, range(2)):
            assert moved.problems == ()
    other = Store.open(tmp_path / "b")
    assert clean(other)
    assert same(numbers(other), numbers(store))


# ---- what is wrong there ---------------------------------------------------------------------------


@pytest.fixture
def two_parts(tmp_path):
    """Return a store of two parts, its remote, and the names of the first part's objects."""
    store = make_store(tmp_path / "a")
    bucket = bucket_at(f"memory://{tmp_path.name}")
    push(store, bucket.address.url)
    part_id = store.features("audio").part_ids()[0]
    names = [name for name in bucket.sizes("") if part_id in name]
    return SimpleNamespace(store=store, bucket=bucket, part_id=part_id, names=names)


def _flip(data):
    return data[:20] + bytes([data[20] ^ 1]) + data[21:]


@pytest.mark.parametrize("end", ["/18/c/0/0", "/offsets/c/0", "/crc32c/c/0/0"])
@pytest.mark.parametrize("spoil", [_flip, lambda data: data[:-3], lambda data: b"", None])
def test_a_damaged_file_is_named_and_the_rest_arrives(tmp_path, two_parts, end, spoil):
    store, bucket, part_id, names = (
        two_parts.store,
        two_parts.bucket,
        two_parts.part_id,
        two_parts.names,
    )
    name = next(name for name in names if name.endswith(end))
    data = bucket.get(name, 1 << 24)
    bucket.remove(name)
    if spoil is not None:
        bucket.overwrite(name, spoil(data))
    other = Store.create(tmp_path / "b")
    moved = pull(other, bucket.address.url)
    assert moved.n_parts == 1
    assert len(moved.problems) == 1
    assert part_id in moved.problems[0]
    assert end[1:] in moved.problems[0]
    assert clean(other)
    right = numbers(store)
    mine = numbers(other)
    assert 0 < len(mine) < len(right)
    assert all(np.array_equal(rows, right[clip_id]) for clip_id, rows in mine.items())
    bucket.overwrite(name, data)  # mended there
    assert pull(other, bucket.address.url).n_parts == 1
    assert same(numbers(other), right)


def _record(names):
    return next(name for name in names if "/commits/" in name)


def _with(changes):
    def spoil(text):
        values = json.loads(text)
        changes(values)
        return json.dumps(values).encode()

    return spoil


def _outside(values):
    values["files"]["../../../../outside"] = next(iter(values["files"].values()))


def _no_file(values):
    values["files"].popitem()


def _other_clip(values):
    text = json.dumps(values["clips"] if "clips" in values else values["ledger"])
    values["clips" if "clips" in values else "ledger"] = json.loads(text.replace("c0", "c9"))


def _other_time(values):
    text = json.dumps(values).replace(": 200", ": 201")
    assert text != json.dumps(values)
    values.update(json.loads(text))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: b"{", lambda text: b"[]", lambda text: b"", lambda text: text[:-30],
        lambda text: b"[" * 100_000, _with(_outside), _with(_no_file), _with(_other_clip), _with(_other_time),
    ],
    ids=["brace", "list", "empty", "cut", "deep", "outside", "no file", "other clip", "other time"],
)  # fmt: skip
def test_a_wrong_record_is_named_and_the_rest_arrives(tmp_path, two_parts, spoil):
    bucket, part_id, names = two_parts.bucket, two_parts.part_id, two_parts.names
    name = _record(names)
    bucket.overwrite(name, spoil(bucket.get(name, 1 << 24)))
    other = Store.create(tmp_path / "b")
    moved = pull(other, bucket.address.url)
    assert moved.n_parts == 1
    assert len(moved.problems) == 1
    assert part_id in moved.problems[0]
    assert clean(other)
    assert not list(tmp_path.rglob("outside"))


def test_a_record_under_another_name_is_refused(tmp_path, two_parts):
    bucket, part_id, names = two_parts.bucket, two_parts.part_id, two_parts.names
    text, name = bucket.get(_record(names), 1 << 24), _record(names)
    bucket.overwrite(name.replace(part_id, "0" * 32), text)
    moved = pull(Store.create(tmp_path / "b"), bucket.address.url)
    assert moved.n_parts == 2
    assert "0" * 32 in moved.problems[0]


def test_names_that_lead_out_are_no_names(tmp_path, two_parts):
    store, bucket, names = two_parts.store, two_parts.bucket, two_parts.names
    head = "features/audio/" + names[0].split("/")[2]
    for name in (
        f"{head}/commits/..json", f"{head}/commits/x.json", "features/audio/.x/spec.json",
        "features/no-modality/x/spec.json", "features/audio/x y/spec.json", f"{head}/commits/{'0' * 31}.json",
    ):  # fmt: skip
        bucket.overwrite(name, b"{}")
    other = Store.create(tmp_path / "b")
    moved = pull(other, bucket.address.url)
    assert (moved.n_parts, moved.problems) == (2, ())
    assert same(numbers(other), numbers(store))


def test_a_spec_that_is_another_is_refused(tmp_path, two_parts):
    bucket, names = two_parts.bucket, two_parts.names
    name = "features/audio/" + names[0].split("/")[2] + "/spec.json"
    bucket.overwrite(name, (make_spec("frame").to_json() + "\n").encode())
    with pytest.raises(MerStoreError, match="expected the spec of"):
        pull(Store.create(tmp_path / "b"), bucket.address.url)
    with pytest.raises(MerStoreError, match="spec"):
        push(make_store(tmp_path / "c", first=90), bucket.address.url)


def test_what_is_damaged_here_is_not_pushed(tmp_path):
    store = make_store(tmp_path / "a")
    shard = next(store.path.glob("features/*/*/parts/*/18/c/0/0"))
    shard.chmod(0o644)
    shard.write_bytes(_flip(shard.read_bytes()))
    url = f"memory://{tmp_path.name}"
    moved = push(store, url)
    assert moved.n_parts == 1
    assert len(moved.problems) == 1
    assert shard.parents[3].name in moved.problems[0]
    assert "18/c/0/0" in moved.problems[0]
    other = Store.create(tmp_path / "b")
    assert pull(other, url).problems == ()
    assert clean(other)


def test_the_command_says_what_failed_and_exits_with_1(tmp_path, two_parts):
    bucket, part_id, names = two_parts.bucket, two_parts.part_id, two_parts.names
    bucket.remove(next(name for name in names if name.endswith("/18/c/0/0")))
    words = ["pull", bucket.address.url, "--store", str(tmp_path / "b"), "--json"]
    result = CliRunner().invoke(cli, words, standalone_mode=False)
    assert result.return_value == 1
    facts = json.loads(result.stdout)
    assert facts["parts"] == 1
    assert part_id in facts["problems"][0]


def test_who_has_a_part_mends_it_there(tmp_path, two_parts):
    store, bucket, names = two_parts.store, two_parts.bucket, two_parts.names
    name = next(name for name in names if name.endswith("/18/c/0/0"))
    data = bucket.get(name, 1 << 24)
    bucket.overwrite(name, _flip(data))
    bucket.overwrite(_record(names), b"{")
    push(store, bucket.address.url)  # it is there, by its name
    assert bucket.get(name, 1 << 24) != data
    words = ["push", bucket.address.url, "--store", str(store.path), "--again"]
    result = CliRunner().invoke(cli, words, standalone_mode=False)
    assert result.exception is None, result.output
    assert bucket.get(name, 1 << 24) == data
    assert pull(Store.create(tmp_path / "b"), bucket.address.url).n_parts == 2


def test_nothing_there(tmp_path):
    with pytest.raises(UsageError, match="no store there"):
        pull(Store.create(tmp_path / "b"), f"memory://{tmp_path.name}")
