"""Servers, started once, and places on them that no other test uses."""

import itertools
from types import SimpleNamespace

import pytest
from remote.servers import moto_server, rclone_server
from remote.stores import bucket_at

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def moto(tmp_path_factory):
    with moto_server(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session")
def rclone(tmp_path_factory):
    with rclone_server(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture(params=["moto", "rclone"])
def s3(request, monkeypatch):
    """Return a server with the environment pointing at it, and the URL of a bucket of its own."""
    return _bucket(request.getfixturevalue(request.param), monkeypatch)


@pytest.fixture
def moto_bucket(moto, monkeypatch):
    return _bucket(moto, monkeypatch)


def _bucket(server, monkeypatch):
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{next(_NUMBERS)}"
    fs = bucket_at(f"s3://{name}").fs
    fs.mkdir(name)
    return SimpleNamespace(server=server, name=server.name, url=f"s3://{name}", fs=fs, bucket=name)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Keep the user's cache out of it."""
    monkeypatch.setenv("MER_STORE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr("mer_store.remote.trying.FIRST_WAIT_S", 0.01)
