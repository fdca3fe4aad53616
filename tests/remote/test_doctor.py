"""Remotes of good and bad manners, and what is said of them."""

import json
import os
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from remote.servers import http_folder
from remote.stores import bucket_at, make_store, push

from mer_store.cli.main import cli
from mer_store.remote import doctor_bucket, doctor_folder
from mer_store.remote.bucket import Bucket
from pipelines.serve.app import serving


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Less is sent, and still in two parts."""
    monkeypatch.setattr(doctor_bucket, "N_BYTES", 5000)
    monkeypatch.setattr(
        "mer_store.remote.bucket.write_options", lambda protocol: {"block_size": 5 << 20}
    )
    monkeypatch.setattr(doctor_bucket, "PIECE_BYTES", 2 << 20)


def ask(remote, *more, code=0):
    words = ["remote", "doctor", str(remote), *map(str, more)]
    result = CliRunner().invoke(cli, words, standalone_mode=False)
    assert result.exception is None, result.exception
    assert result.return_value == code, result.output
    return result.stdout


def told(remote, code=0):
    values = json.loads(ask(remote, "--json", code=code))
    assert values["safe"] is (code == 0)
    kept = {trial["promise"]: trial["kept"] for trial in values["trials"]}
    return SimpleNamespace(kept=kept, verdict=values["verdict"], advice=" ".join(values["advice"]))


def broken(found):
    return [promise for promise, kept in found.kept.items() if not kept]


def test_two_s3_servers_are_told_apart(s3):
    found = told(f"{s3.url}/team")
    assert found.verdict == "safe: push and pull by any number of members at once"
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in str(found)
    assert len(found.kept) == 12
    conditional = "conditional writes have one winner"
    assert broken(found) == ([] if s3.name == "moto" else [conditional])
    assert ("conditional writes are ignored here" in found.advice) is (s3.name == "rclone")
    assert not bucket_at(s3.url).sizes("")  # nothing stays


def test_what_is_there_is_untouched(tmp_path):
    url = f"memory://{tmp_path.name}"
    push(make_store(tmp_path / "a", parts=1), url)
    before = bucket_at(url).sizes("")
    words = ask(url)
    assert bucket_at(url).sizes("") == before
    assert "ok        pieces of objects can be read: front, middle and end are exact\n" in words


def test_a_bucket_that_is_not_there(moto_bucket):
    found = told("s3://no-such-bucket/x", code=1)
    assert found.verdict == "not usable: nothing can be written here, and there is no store to read"
    assert "AWS_ENDPOINT_URL" in found.advice


def test_a_member_who_may_only_read(moto_bucket, tmp_path, monkeypatch):
    push(make_store(tmp_path / "a", parts=1), moto_bucket.url)

    def refuse(*arguments, **named):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(Bucket, "put", refuse)
    found = told(moto_bucket.url)
    assert found.verdict.startswith("safe: clone, pull")
    assert "cannot push here" in found.advice
    assert broken(found) == ["objects can be written"]


def _partly_visible(monkeypatch):
    def put(self, path, pieces):
        done = b""
        for piece in pieces:
            done += piece
            self.fs.pipe_file(self._path(path), done)

    monkeypatch.setattr(Bucket, "put", put)


def _wrong_ranges(monkeypatch):
    right = Bucket.get_range

    def get_range(self, path, start, stop):
        return (
            right(self, path, max(start - 1, 0), stop - 1) if start else right(self, path, 0, stop)
        )

    monkeypatch.setattr(Bucket, "get_range", get_range)


def _stale_listing(monkeypatch):
    monkeypatch.setattr(Bucket, "names", lambda self, folder: {})


def _stale_reads(monkeypatch):
    first, right = {}, Bucket.get

    def get(self, path, limit):
        return first.setdefault(path, right(self, path, limit))

    monkeypatch.setattr(Bucket, "get", get)


@pytest.mark.parametrize(
    ("spoil", "promise"),
    [
        (_partly_visible, "an object appears whole or not at all"),
        (_wrong_ranges, "pieces of objects can be read"),
        (_stale_listing, "objects are listed"),
        (_stale_reads, "an object can be written over"),
    ],
)
def test_a_promise_that_is_not_kept_is_named(monkeypatch, spoil, promise):
    spoil(monkeypatch)
    found = told("memory://doctor", code=1)
    assert promise in broken(found)
    assert promise in found.verdict
    assert found.verdict.startswith("not safe")
    monkeypatch.undo()
    assert not Bucket(bucket_at("memory://doctor").address).sizes("")


def test_a_good_folder(tmp_path):
    found = told(tmp_path)
    assert broken(found) == []
    assert found.verdict == "safe: push, pull and extract by any number of members at once"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_not_made(tmp_path):
    found = told(tmp_path / "usb" / "store")
    assert "not there yet" in found.advice
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_links_and_bits(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    monkeypatch.setattr("pathlib.Path.chmod", lambda self, mode: None)
    found = told(tmp_path)
    assert broken(found) == [doctor_folder.LINKS, doctor_folder.BITS]
    assert found.verdict == "safe: push and pull"
    assert "no hard links" in found.advice
    assert list(tmp_path.iterdir()) == []


def test_a_folder_where_one_name_is_given_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor_folder, "_RACER", doctor_folder._RACER.replace("os.O_EXCL | ", ""))
    found = told(tmp_path, code=1)
    assert broken(found) == ["a name is given once, by two processes at once"]
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_web_server(tmp_path):
    store = make_store(tmp_path / "a", parts=1)
    with serving(store.path) as url:
        found = told(url)
    assert broken(found) == []
    assert found.verdict == "safe: clone, pull and reading in place"


def test_a_web_server_that_ignores_ranges(tmp_path):
    push(make_store(tmp_path / "a", parts=1), "memory://web")
    bucket = bucket_at("memory://web")
    for name in bucket.sizes(""):
        place = tmp_path / "www" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(bucket.get(name, 1 << 20))
    with http_folder(tmp_path / "www") as url:
        found = told(url)
        assert broken(found) == ["nothing comes from beyond the end", "a piece comes alone"]
        assert "at a price" in found.verdict
        assert "answers ranges" in found.advice
        (tmp_path / "www" / "index.json").unlink()
        assert told(url, code=1).verdict == "not usable: there is no store to read"


def test_a_name_stands_for_its_url(tmp_path):
    store = make_store(tmp_path / "a", parts=1)
    from mer_store.remote.names import add_remote

    add_remote(store.path, "lab", str(tmp_path / "lab"))
    (tmp_path / "lab").mkdir()
    assert f"{tmp_path / 'lab'}: safe" in ask("lab", "--store", store.path)
