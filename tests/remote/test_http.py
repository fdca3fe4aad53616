"""From a web server that answers ranges, and from one that does not."""

import pytest
from click.testing import CliRunner
from remote.servers import http_folder
from remote.stores import bucket_at, clean, make_store, numbers, pull, push, same

from mer_store.cli.main import cli
from mer_store.errors import StoreDamagedError, UsageError
from mer_store.opening import open_store
from mer_store.store.store import Store
from pipelines.serve.app import serving


def test_a_served_store_is_cloned(tmp_path):
    store = make_store(tmp_path / "a")
    with serving(store.path) as url:
        words = ["clone", url, str(tmp_path / "b"), "--modality", "audio"]
        result = CliRunner().invoke(cli, words, standalone_mode=False)
        assert result.exception is None, result.output
        assert same(numbers(open_store(url)), numbers(store))
    other = Store.open(tmp_path / "b")
    assert clean(other)
    assert same(numbers(other), numbers(store))


def test_nothing_is_pushed_to_a_web_server(tmp_path):
    store = make_store(tmp_path / "a", parts=1)
    with (
        serving(store.path) as url,
        pytest.raises(UsageError, match="can only be read; push to the"),
    ):
        push(store, url)


def test_a_plain_web_server_that_sends_all_for_a_range(tmp_path):
    store = make_store(tmp_path / "a")
    publish(store, tmp_path)
    with http_folder(tmp_path / "www") as url:
        other = Store.create(tmp_path / "b")
        assert pull(other, url).problems == ()
        assert same(numbers(other), numbers(store))
        assert same(numbers(open_store(url)), numbers(store))


def publish(store, tmp_path):
    """Write what a push makes into a folder."""
    push(store, f"memory://{tmp_path.name}")
    bucket = bucket_at(f"memory://{tmp_path.name}")
    for name in bucket.sizes(""):
        place = tmp_path / "www" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(bucket.get(name, 1 << 20))


def test_an_address_without_a_store(tmp_path):
    (tmp_path / "www").mkdir()
    with http_folder(tmp_path / "www") as url:
        with pytest.raises(UsageError, match="no store there"):
            pull(Store.create(tmp_path / "b"), url)
        (tmp_path / "www" / "store.json").write_text('{"format": 1}\n')
        with pytest.raises(UsageError, match=r"index\.json: not there"):
            pull(Store.create(tmp_path / "b"), url)
        (tmp_path / "www" / "store.json").write_text('{"format": 2}\n')
        with pytest.raises(UsageError, match="newer mer-store"):
            pull(Store.create(tmp_path / "b"), url)


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", '{"format": 2, "feature_sets": []}', '{"format": 1}',
        '{"format": 1, "feature_sets": [{"modality": "audio", "name": "../../x", "parts": []}]}',
        '{"format": 1, "feature_sets": [{"modality": "..", "name": "x", "parts": []}]}',
        '{"format": 1, "feature_sets": [{"modality": "audio", "name": "x", "parts": ["../../y"]}]}',
        '{"format": 1, "feature_sets": [{"modality": "audio", "name": "x", "parts": 5}]}',
        "[" * 100_000,
    ],
)  # fmt: skip
def test_an_index_that_is_none_is_refused(tmp_path, text):
    www = tmp_path / "www"
    www.mkdir()
    (www / "store.json").write_text('{"format": 1}\n')
    (www / "index.json").write_text(text)
    with (
        http_folder(www) as url,
        pytest.raises(StoreDamagedError, match=r"index\.json: not an index"),
    ):
        pull(Store.create(tmp_path / "b"), url)
    assert not list((tmp_path / "b").glob("**/x*"))
