"""The names a store gives to remotes."""

import json

import pytest
from click.testing import CliRunner

from mer_store.cli.main import cli
from mer_store.errors import StoreDamagedError, UsageError
from mer_store.remote.names import REMOTES_FILE, add_remote, read_remotes, remove_remote, resolve
from mer_store.store.store import Store


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "store").path


def test_added_listed_resolved_removed(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    add_remote(store, "lab", "s3://team/mer2024/")
    add_remote(store, "usb", "usb")
    assert read_remotes(store) == {"lab": "s3://team/mer2024", "usb": str(tmp_path / "usb")}
    assert resolve(store, "lab").url == "s3://team/mer2024"
    assert resolve(store, "other").folder.name == "other"
    assert resolve(None, "lab").is_folder
    remove_remote(store, "lab")
    assert list(read_remotes(store)) == ["usb"]
    with pytest.raises(UsageError, match=r"'lab': not known; there are: usb"):
        remove_remote(store, "lab")


@pytest.mark.parametrize("name", ["", "-x", ".x", "a/b", "..", "a b"])
def test_names_that_cannot_be(store, name):
    with pytest.raises(UsageError, match="expected letters"):
        add_remote(store, name, "s3://team/x")
    assert read_remotes(store) == {}


def test_a_password_is_not_written_down(store):
    with pytest.raises(UsageError, match="holds a password") as caught:
        add_remote(store, "lab", "ssh://me:hunter2@host/x")
    assert "hunter2" not in str(caught.value)
    assert not (store / REMOTES_FILE).exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"lab": 1}'])
def test_a_broken_table_is_named(store, text):
    (store / REMOTES_FILE).write_text(text)
    with pytest.raises(StoreDamagedError, match="remove it and add again"):
        read_remotes(store)


def test_the_command(store):
    def run(*words):
        result = CliRunner().invoke(cli, [*words, "--store", str(store)], standalone_mode=False)
        assert result.exception is None, result.exception
        return result.stdout

    run("remote", "add", "lab", "https://example.org/x?key=abcd")
    assert run("remote", "list") == "lab\thttps://example.org/x\n"
    assert json.loads(run("remote", "list", "--json")) == {"lab": "https://example.org/x"}
    run("remote", "remove", "lab")
    assert run("remote", "list") == ""
