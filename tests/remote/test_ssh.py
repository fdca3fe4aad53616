"""Through a host: a real SSH server, many requests at once, connections that break."""

import pytest
from remote.ssh_server import ssh_server
from remote.stores import bucket_at, clean, make_store, numbers, pull, push, same

from mer_store.opening import open_store
from mer_store.remote import doctor_bucket
from mer_store.remote.address import Address
from mer_store.remote.doctor import examine
from mer_store.remote.trying import TransferError
from mer_store.store.store import Store


@pytest.fixture
def host(tmp_path, monkeypatch):
    with ssh_server(tmp_path / "host") as running:
        monkeypatch.setenv("HOME", str(running.home))
        yield running


def test_what_was_pushed_is_pulled_bit_by_bit(host, tmp_path):
    store = make_store(tmp_path / "a")
    make_store(tmp_path / "a", parts=1, modality="visual", level="frame")
    url = f"{host.url}/team/mer2024"
    assert push(store, url).problems == ()
    other = Store.create(tmp_path / "b")
    assert pull(other, url).n_parts == 3
    assert clean(other)
    for modality in ("audio", "visual"):
        assert same(numbers(other, modality), numbers(store, modality))
    assert same(numbers(open_store(url)), numbers(store))


def test_a_lost_connection_is_made_anew(host, tmp_path):
    url = f"{host.url}/team/mer2024"
    push(make_store(tmp_path / "a"), url)
    bucket = bucket_at(url)
    text = bucket.get("store.json", 1000)
    host.drop()
    assert bucket.get("store.json", 1000) == text


def test_pieces_come_alone(host):
    bucket = bucket_at(f"{host.url}/x")
    bucket.put("folder/it", [b"0123456789"])
    assert bucket.read("folder/it", 3, 5) == b"34"
    assert bucket.read("folder/it", 8, 20) == b"89"
    assert bucket.names("folder") == {"it": 10}


def test_an_unknown_host_is_not_trusted(host):
    (host.home / ".ssh" / "known_hosts").write_text("")
    with pytest.raises(TransferError, match=r"[Hh]ost key"):
        bucket_at(f"{host.url}/x").get("store.json", 10)


def test_the_doctor_finds_it_safe(host, monkeypatch):
    monkeypatch.setattr(doctor_bucket, "N_BYTES", 5000)
    monkeypatch.setattr(doctor_bucket, "PIECE_BYTES", 2 << 20)
    told = {trial.promise: trial for trial in examine(Address.parse(f"{host.url}/x")).trials}
    assert told["a piece comes alone"].kept
    assert told["objects can be written"].kept
    assert not told["conditional writes have one winner"].kept
