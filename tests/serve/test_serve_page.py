"""The page of a served store: what there is, how to fetch it, and nothing from anywhere else."""

import http.client
import re
import shlex
import shutil
import subprocess

import pytest
from page_reader import read_page
from part_factory import make_set, ok_clip, write_part

from mer_store.store.store import Store
from mer_store.store.writer import ClipRows
from pipelines.serve.address import asked_url
from pipelines.serve.app import serving
from pipelines.serve.page import Page

EVERYWHERE = "0.0.0.0"  # noqa: S104 - there any name may be asked for
URL = "http://127.0.0.1:8765"
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x>',
    "$(reboot)",
    "a;reboot",
    "a b",
    "a/b",
    "a'b",
    "`x`",
]


@pytest.fixture
def folder(tmp_path):
    """Return a store of two feature sets, one with clips that have no features."""
    utterance = make_set(tmp_path / "store", "utterance", trained=True)
    missing = [
        ClipRows("bad", "failed", reason="decode: truncated"),
        ClipRows("still", "empty", reason="no speech"),
        ClipRows("hush", "empty", reason="no speech"),
    ]
    write_part(
        utterance, [*(ok_clip(f"c{n}", (16, 17, 18), 1) for n in range(4)), *missing], (16, 17, 18)
    )
    visual = make_set(tmp_path / "store", modality="visual", model="clip", recipe="mertools2024")
    write_part(visual, [ok_clip("c0", ("embed",), 5)], ("embed",))
    return tmp_path / "store"


def page_of(text, tmp_path):
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    return read_page(tmp_path / "page.html")


def commands_of(text):
    return [
        block.replace("&#x27;", "'").replace("&quot;", '"')
        for block in re.findall(r"<pre>(.*?)</pre>", text, re.S)
    ]


def test_feature_sets_are_listed_with_their_coverage(folder, tmp_path):
    page = page_of(Page(Store.open(folder)).html(URL), tmp_path)
    first, second = Store.open(folder).feature_sets()
    rows = page.table(
        "modality", "model", "level", "layers", "recipe", "ok", "empty", "failed", "parts"
    )
    assert [row[:9] + row[10:] for row in rows] == [
        [
            "audio",
            "tiny",
            "utterance",
            "16-18",
            "default",
            "4",
            "2",
            "1",
            "1",
            first.spec.fingerprint,
        ],
        [
            "visual",
            "clip untrained",
            "frame",
            "embed",
            "mertools2024",
            "1",
            "0",
            "0",
            "1",
            second.spec.fingerprint,
        ],
    ]
    assert all(re.fullmatch(r"[\d.]+ KiB", row[9]) for row in rows)
    assert 'title="empty 2"' in page.source


def test_commands_name_the_address_that_was_asked_for(folder):
    with serving(folder, host=EVERYWHERE) as url:
        port = url.rpartition(":")[2]
        text = _get(url, f"team.example:{port}")
    everything, one_layer, python = commands_of(text)
    address = f"http://team.example:{port}"
    assert everything == f"mer-store pull {address}"
    assert shlex.split(one_layer.replace("\\\n", " ")) == [
        "mer-store", "pull", address, "--modality", "audio", "--level", "utterance",
        "--model", "tiny", "--layers", "17",
    ]  # fmt: skip
    [first, _] = Store.open(folder).feature_sets()
    opened = python.replace(f"mer_store.open('{address}')", "Store.open(folder)").replace(
        "import mer_store\n", ""
    )
    names = {"Store": Store, "folder": folder}
    exec(opened, names)  # noqa: S102 - what the page tells people to type must work
    assert names["x"].shape == (4, 1, first.read([17]).shape[-1])


@pytest.mark.parametrize("host", HOSTILE)
def test_a_hostile_host_gets_nowhere(folder, tmp_path, host):
    with serving(folder, host=EVERYWHERE) as url:
        text = _get(url, host)
    assert commands_of(text)[0] == f"mer-store pull {url}"
    page_of(text, tmp_path)
    assert host not in text


@pytest.mark.parametrize(
    "host", ["gpu1", "gpu1:80", "10.0.0.7:8765", "[fe80::1]:8765", "a-b.example.org"]
)
def test_ordinary_hosts_are_kept(host):
    assert asked_url(host, URL) == f"http://{host}"


def test_the_names_of_a_store_are_escaped(tmp_path):
    folder = tmp_path / "<b>&store"
    write_part(make_set(folder, recipe="<i>'x'</i>"), {"c0": 1})
    page = page_of(Page(Store.open(folder)).html(URL), tmp_path)
    assert "<b>&store" in page.words
    assert "<i>'x'</i>" in page.words


def test_the_page_follows_the_store(tmp_path):
    page = Page(Store.create(tmp_path / "store"))
    assert "The store is empty" in page.html(URL)
    feature_set = make_set(tmp_path / "store")
    write_part(feature_set, {"c0": 1})
    assert page_of(page.html(URL), tmp_path).table("modality")[0][5] == "1"
    write_part(feature_set, {"c1": 1, "c2": 1})
    assert page_of(page.html(URL), tmp_path).table("modality")[0][5] == "3"


def test_a_damaged_feature_set_does_not_hide_the_others(folder, tmp_path):
    [_, visual] = Store.open(folder).feature_sets()
    [commit] = (visual.path / "commits").glob("*.json")
    commit.chmod(0o644)
    commit.write_text("{")
    page = page_of(Page(Store.open(folder)).html(URL), tmp_path)
    assert [row[0] for row in page.table("modality")] == ["audio"]
    assert f"visual/{visual.name} cannot be read; its owner runs mer-store verify" in page.words


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium")
def test_a_browser_shows_the_page_and_asks_nobody_else(folder, tmp_path):
    line = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        "--v=0",
    ]
    log = tmp_path / "net.json"
    with serving(folder) as url:
        shown = subprocess.run(
            [*line, f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={log}",
             "--disable-background-networking", "--disable-component-update", "--dump-dom", f"{url}/"],
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
    for feature_set in Store.open(folder).feature_sets():
        assert feature_set.spec.fingerprint in shown.stdout
    assert f"mer-store pull {url}" in shown.stdout
    assert "CONSOLE" not in shown.stderr
    asked = set(re.findall(r'"url":"(https?://[^"]+)"', log.read_text(errors="replace")))
    assert f"{url}/" in asked
    assert {address for address in asked if address.startswith(url)} <= {
        f"{url}/",
        f"{url}/favicon.ico",
    }


def _get(url, host):
    """Fetch the page under a name of one's choice."""
    connection = http.client.HTTPConnection("127.0.0.1", int(url.rpartition(":")[2]), timeout=30)
    connection.putrequest("GET", "/", skip_host=True)
    connection.putheader("Host", host)
    connection.endheaders()
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status == 200
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    return text
