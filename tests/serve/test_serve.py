"""A store over HTTP: exactly what is committed, byte for byte, and nothing else."""

import http.client
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from types import SimpleNamespace

import pytest
from part_factory import make_set, ok_clip, part_folder, write_part

from mer_store.errors import UsageError
from mer_store.store.store import Store
from pipelines.serve.app import BLOCK_BYTES, serving
from pipelines.serve.visible import Content

COMMAND = [sys.executable, "-c", "from mer_store.cli import main; main()", "serve"]
EVERYWHERE = "0.0.0.0"  # noqa: S104 - the command must warn of it
N_ROWS, WIDTH = 5000, 128


def ask(url, path, method="GET", body=None, **headers):
    """Ask for a path as it is written, which urllib would tidy."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    try:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, names)
        answer = connection.getresponse()
        return SimpleNamespace(status=answer.status, headers=answer.headers, body=answer.read())
    finally:
        connection.close()


def address_of(feature_set, record, digits=None):
    """Where the files of a part lie on a remote."""
    digits = digits or record.files["zarr.json"].sha256[:16]
    return f"/features/audio/{feature_set.name}/parts/{record.part_id}.{digits}"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Return a store with a file of more than one block, served; no test changes it."""
    path = tmp_path_factory.mktemp("shared") / "store"
    feature_set = make_set(path)
    record = write_part(
        feature_set, [ok_clip("a", n_rows=N_ROWS, width=WIDTH), ok_clip("b", n_rows=2, width=WIDTH)]
    )
    name = max(record.files, key=lambda name: record.files[name].n_bytes)
    data = (part_folder(feature_set, record) / name).read_bytes()
    assert len(data) > BLOCK_BYTES
    place = f"{address_of(feature_set, record)}/{name}"
    with serving(path) as url:
        yield SimpleNamespace(
            url=url, path=path, feature_set=feature_set, record=record, place=place, data=data
        )


@pytest.fixture
def served(tmp_path):
    """Return a small store of one part, served."""
    feature_set = make_set(tmp_path / "store")
    record = write_part(feature_set, {"a": 2, "b": 3})
    with serving(tmp_path / "store") as url:
        yield SimpleNamespace(
            url=url, path=tmp_path / "store", feature_set=feature_set, record=record,
            folder=part_folder(feature_set, record), place=address_of(feature_set, record),
        )  # fmt: skip


# ---- what is served ------------------------------------------------------------------------------------


def test_every_file_of_a_part_arrives_byte_for_byte(shared):
    start = address_of(shared.feature_set, shared.record)
    for name, facts in shared.record.files.items():
        answer = ask(shared.url, f"{start}/{name}")
        assert (answer.status, len(answer.body)) == (200, facts.n_bytes)
        assert sha256(answer.body).hexdigest() == facts.sha256
        assert answer.headers["ETag"] == f'"{facts.sha256}"'
        assert "immutable" in answer.headers["Cache-Control"]


def test_index_spec_and_records_are_those_on_disk(shared):
    base = f"/features/audio/{shared.feature_set.name}"
    for name in ("spec.json", f"commits/{shared.record.part_id}.json"):
        answer = ask(shared.url, f"{base}/{name}")
        assert answer.body == (shared.feature_set.path / name).read_bytes()
        assert answer.headers["Content-Type"] == "application/json"
    assert ask(shared.url, "/store.json").body == (shared.path / "store.json").read_bytes()
    assert json.loads(ask(shared.url, "/index.json").body) == {
        "format": 1,
        "feature_sets": [
            {"modality": "audio", "name": shared.feature_set.name, "parts": [shared.record.part_id]}
        ],
    }


def test_the_index_follows_the_commits(served):
    before = ask(served.url, "/index.json")
    assert ask(served.url, "/index.json").headers["ETag"] == before.headers["ETag"]
    second = write_part(served.feature_set, {"c": 1})
    third = write_part(make_set(served.path, level="utterance"), {"a": 1})
    after = ask(served.url, "/index.json", If_None_Match=before.headers["ETag"])
    assert after.status == 200
    assert after.headers["ETag"] != before.headers["ETag"]
    parts = {item["name"]: item["parts"] for item in json.loads(after.body)["feature_sets"]}
    assert sorted(map(sorted, parts.values())) == sorted(
        [sorted([served.record.part_id, second.part_id]), [third.part_id]]
    )
    known = ask(served.url, "/index.json", If_None_Match=f'"x", {after.headers["ETag"]}')
    assert (known.status, known.body) == (304, b"")
    assert ask(served.url, f"{address_of(served.feature_set, second)}/zarr.json").status == 200


def test_a_part_without_a_record_is_not_there(served):
    commit = served.feature_set.path / "commits" / f"{served.record.part_id}.json"
    assert ask(served.url, f"{served.place}/zarr.json").status == 200
    commit.rename(served.path / "away.json")
    assert json.loads(ask(served.url, "/index.json").body)["feature_sets"][0]["parts"] == []
    assert ask(served.url, f"{served.place}/zarr.json").status == 404


def test_two_clients_at_once_and_small_answers_beside_them(shared):
    places = [shared.place, shared.place, "/store.json", "/index.json"] * 3
    with ThreadPoolExecutor(len(places)) as pool:
        answers = list(pool.map(lambda place: ask(shared.url, place), places))
    assert all(answer.status == 200 for answer in answers)
    assert all(answers[number].body == shared.data for number in (0, 1, 4, 5, 8, 9))


def test_one_connection_serves_many_requests(shared):
    connection = http.client.HTTPConnection(shared.url.removeprefix("http://"), timeout=30)
    for method, place in [
        ("HEAD", shared.place),
        ("GET", "/none"),
        ("HEAD", "/"),
        ("GET", "/store.json"),
    ]:
        connection.request(method, place)
        answer = connection.getresponse()
        body = answer.read()
        assert not answer.will_close
    assert body == (shared.path / "store.json").read_bytes()
    connection.close()


# ---- ranges --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("0-0", 0, 1),
        ("10-29", 10, 30),
        (f"{BLOCK_BYTES - 7}-{BLOCK_BYTES + 6}", BLOCK_BYTES - 7, BLOCK_BYTES + 7),
        ("100-", 100, None),
        ("-9", -9, None),
        ("5-99999999999999", 5, None),
        ("-99999999999999", 0, None),
    ],
)
def test_a_range_is_exact(shared, asked, start, end):
    answer = ask(shared.url, shared.place, Range=f"bytes={asked}")
    expected = shared.data[start:end]
    assert answer.status == 206
    assert answer.body == expected
    first = start % len(shared.data)
    last = first + len(expected) - 1
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(shared.data)}"
    assert answer.headers["Content-Length"] == str(len(expected))


@pytest.mark.parametrize("asked", ["{end}-", "{end}-{more}", "-0"])
def test_a_range_behind_the_end_is_refused(shared, asked):
    end = len(shared.data)
    answer = ask(shared.url, shared.place, Range=f"bytes={asked.format(end=end, more=end + 9)}")
    assert answer.status == 416
    assert answer.headers["Content-Range"] == f"bytes */{end}"


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,5-6", "bytes=9-2", "bytes=-", "bytes=a-b", "rows=0-1"]
)
def test_what_is_no_single_range_gets_the_whole_file(shared, asked):
    answer = ask(shared.url, shared.place, Range=asked)
    assert (answer.status, answer.body) == (200, shared.data)


def test_a_range_of_another_version_gets_the_whole_file(shared):
    etag = ask(shared.url, shared.place, "HEAD").headers["ETag"]
    assert ask(shared.url, shared.place, Range="bytes=0-1", If_Range=etag).status == 206
    assert ask(shared.url, shared.place, Range="bytes=0-1", If_Range='"other"').status == 200


def test_head_tells_the_size_and_sends_nothing(shared):
    answer = ask(shared.url, shared.place, "HEAD", Range="bytes=0-1")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(shared.data))
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert ask(shared.url, "/none", "HEAD").status == 404


# ---- what is not served --------------------------------------------------------------------------------


def test_nothing_that_no_record_names_is_served(served):
    secret = b"nobody may read this"
    name = served.feature_set.name
    hidden = [
        ".cache/x.index", "labels.csv", "mer-store.toml", f"features/audio/{name}/tmp/x/zarr.json",
        f"features/audio/{name}/quarantine/x/zarr.json", f"features/audio/{name}/commits/notes.json",
        f"features/audio/{name}/parts/{served.record.part_id}/stranger",
        f"features/audio/{name}/parts/{'0' * 32}/zarr.json",
    ]  # fmt: skip
    served.folder.chmod(0o755)
    for place in hidden:
        (served.path / place).parent.mkdir(parents=True, exist_ok=True)
        (served.path / place).write_bytes(secret)
    (served.path.parent / "outside").write_bytes(secret)
    places = [
        *(f"/{place}" for place in hidden),
        f"{served.place}/stranger",
        f"{served.place}/",
        f"{served.place}",
        f"/features/audio/{name}/parts/{served.record.part_id}/zarr.json",
        f"/features/audio/{name}/parts/{'0' * 32}.{'0' * 16}/zarr.json",
        "/../outside", "/%2e%2e/outside", "/..%2foutside", "/%252e%252e/outside", "//outside",
        f"{served.place}/../../../../../mer-store.toml",
        f"{served.place}/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/mer-store.toml",
        f"/features/audio/{name}/commits/..%2f..%2f..%2f..%2fmer-store.toml",
        "/features", "/features/", "/features/audio/", f"/features/audio/{name}/",
        f"/features/audio/{name}/commits/", "/store.json/", "/store.json%00", "/favicon.ico",
        f"/{'a' * 5000}", "/features/audio/none-frame-0/spec.json",
    ]  # fmt: skip
    for place in places:
        answer = ask(served.url, place)
        assert answer.status == 404, place
        assert secret not in answer.body
        assert answer.headers["Content-Type"].startswith("text/plain")
    assert ask(served.url, "/index.json").status == 200


def test_a_part_is_served_under_its_own_digits_only(served):
    wrong = address_of(served.feature_set, served.record, "0" * 16)
    short = address_of(
        served.feature_set, served.record, served.record.files["zarr.json"].sha256[:8]
    )
    assert ask(served.url, f"{wrong}/zarr.json").status == 404
    assert b"other content" in ask(served.url, f"{wrong}/zarr.json").body
    assert ask(served.url, f"{short}/zarr.json").status == 404


@pytest.mark.parametrize(
    "victim", ["file", "folder", "part", "record", "feature set", "modality", "pipe"]
)
def test_links_and_pipes_are_not_followed(served, victim):
    outside = served.path.parent / "outside"
    outside = outside / served.feature_set.name if victim == "feature set" else outside
    outside.parent.mkdir(exist_ok=True)
    target, place = {
        "file": (served.folder / "18" / "zarr.json", f"{served.place}/18/zarr.json"),
        "pipe": (served.folder / "18" / "zarr.json", f"{served.place}/18/zarr.json"),
        "feature set": (served.feature_set.path, f"{served.place}/18/zarr.json"),
        "modality": (served.feature_set.path.parent, f"{served.place}/18/zarr.json"),
        "folder": (served.folder / "18", f"{served.place}/18/zarr.json"),
        "part": (served.folder, f"{served.place}/18/zarr.json"),
        "record": (
            served.feature_set.path / "commits" / f"{served.record.part_id}.json",
            f"/features/audio/{served.feature_set.name}/commits/{served.record.part_id}.json",
        ),
    }[victim]
    assert ask(served.url, place).status == 200
    for folder in (served.folder, served.folder / "18"):
        folder.chmod(0o755)
    target.rename(outside)
    if victim == "pipe":
        os.mkfifo(target)
    else:
        target.symlink_to(outside)
    assert ask(served.url, place).status == 404


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
def test_nothing_can_be_changed(served, method):
    before = ask(served.url, "/index.json").body
    answer = ask(served.url, "/store.json", method, body=b"{}")
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET,HEAD"
    assert b"read only" in answer.body
    assert ask(served.url, "/index.json").body == before


def test_damage_is_told_to_the_client_and_explained_to_the_owner(served, caplog):
    shard = max(served.record.files, key=lambda name: served.record.files[name].n_bytes)
    (served.folder / shard).chmod(0o644)
    (served.folder / shard).write_bytes(b"cut")
    with caplog.at_level(logging.WARNING):
        answer = ask(served.url, f"{served.place}/{shard}")
    assert answer.status == 500
    assert b"mer-store verify" in answer.body
    assert f"expected {served.record.files[shard].n_bytes} bytes, got 3" in caplog.text
    commit = served.feature_set.path / "commits" / f"{served.record.part_id}.json"
    commit.chmod(0o644)
    commit.write_text("{")
    place = f"/features/audio/{served.feature_set.name}/commits/{commit.name}"
    assert ask(served.url, place).status == 500
    assert str(served.path).encode() not in ask(served.url, place).body
    assert ask(served.url, f"{served.place}/zarr.json").status == 500


def test_a_file_cut_while_it_is_sent_never_looks_whole(shared, monkeypatch):
    read = Content.read
    monkeypatch.setattr(
        Content, "read", lambda self, start, n: read(self, start, n) if start == 0 else b""
    )
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        ask(shared.url, shared.place)
    monkeypatch.undo()
    assert ask(shared.url, shared.place).body == shared.data


def test_a_page_elsewhere_cannot_use_a_name_of_its_own(served):
    for host in ("evil.example", "evil.example:80", "localhost.evil.example", "<b>"):
        assert ask(served.url, "/index.json", Host=host).status == 421
    for host in ("localhost:1", "127.0.0.1", "[::1]:8765", "a.localhost"):
        assert ask(served.url, "/index.json", Host=host).status == 200


def test_clients_that_leave_do_not_disturb_others(shared, caplog):
    port = int(shared.url.rpartition(":")[2])
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(f"GET {shared.place} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            client.recv(100)
    assert ask(shared.url, shared.place).body == shared.data
    assert not caplog.records


# ---- starting and stopping -----------------------------------------------------------------------------


def test_a_port_in_use_is_an_error(shared):
    port = int(shared.url.rpartition(":")[2])
    with pytest.raises(UsageError, match="choose another --port"), serving(shared.path, port=port):
        pass


def test_a_host_that_is_none_is_an_error(shared):
    with pytest.raises(UsageError, match="--host"), serving(shared.path, host="no host"):
        pass


def test_no_store_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="not a store"), serving(tmp_path):
        pass


@pytest.mark.parametrize(
    ("options", "warns"), [([], False), (["--host", EVERYWHERE], True)], ids=["loopback", "open"]
)
def test_the_command_prints_its_address_and_stops_at_ctrl_c(tmp_path, options, warns):
    Store.create(tmp_path / "store")
    line = [*COMMAND, "--store", str(tmp_path / "store"), "--port", "0", *options]
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        url = process.stdout.readline().rstrip("\n")
        port = url.rpartition(":")[2]
        assert url == f"http://{EVERYWHERE if warns else '127.0.0.1'}:{port}"
        assert ask(f"http://127.0.0.1:{port}", "/store.json").status == 200
        assert ask(f"http://127.0.0.1:{port}", "/none").status == 404
        process.send_signal(signal.SIGINT)
        rest, told = process.communicate(timeout=60)
    assert (process.returncode, rest) == (0, "")
    assert ("warning" in told) == warns
    assert f"ssh -N -L {port}:127.0.0.1:{port} " in told
    assert told.endswith("served 2 requests from 1 address: 0.0 MiB, 1 refused\n")
