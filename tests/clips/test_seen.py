import logging
import sqlite3
from concurrent.futures import ThreadPoolExecutor

from mer_store.clips.seen import SeenMedia

KEY, OTHER = ("/v/a.mp4", 10, 111), ("/v/b.mp4", 20, 222)


def test_digests_are_remembered(tmp_path):
    SeenMedia(tmp_path / "new" / "seen.sqlite").put_many({KEY: "sha256:a", OTHER: "sha256:b"})
    seen = SeenMedia(tmp_path / "new" / "seen.sqlite")
    assert seen.get_many([KEY, ("/v/c.mp4", 1, 1)]) == {KEY: "sha256:a"}


def test_a_changed_file_was_not_seen(tmp_path):
    seen = SeenMedia(tmp_path / "seen.sqlite")
    seen.put_many({KEY: "sha256:a"})
    assert seen.get_many([("/v/a.mp4", 11, 111), ("/v/a.mp4", 10, 112)]) == {}
    assert seen.get_many([("/v/a.mp4", 10, 112)]) == {}
    seen.put_many({("/v/a.mp4", 10, 112): "sha256:new"})
    assert seen.get_many([("/v/a.mp4", 10, 112)]) == {("/v/a.mp4", 10, 112): "sha256:new"}
    assert seen.get_many([KEY]) == {}


def test_many_at_once_and_none(tmp_path):
    seen = SeenMedia(tmp_path / "seen.sqlite")
    digests = {(f"/v/{k}", k, k): f"sha256:{k}" for k in range(1801)}
    seen.put_many(digests)
    assert seen.get_many(digests) == digests
    assert seen.get_many([]) == {}
    seen.put_many({})


def test_threads_share_it(tmp_path):
    seen = SeenMedia(tmp_path / "seen.sqlite")
    batches = [{(f"/v/{n}/{k}", 1, 1): f"{n}" for k in range(20)} for n in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(seen.put_many, batches))
    assert sum(len(seen.get_many(batch)) for batch in batches) == 320


def test_unwritable_or_broken_is_said_once_and_stops_nothing(tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"this is no database, but long enough to be looked at" * 40)
    for path in (tmp_path / "file", tmp_path / "file" / "below" / "seen.sqlite"):
        caplog.clear()
        seen = SeenMedia(path)
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                seen.put_many({KEY: "sha256:a"})
                assert seen.get_many([KEY]) == {}
        assert len(caplog.records) == 1
        assert "not remembered" in caplog.text


def test_locked_is_survived(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("mer_store.clips.seen._WAIT_S", 0.05)
    seen = SeenMedia(tmp_path / "seen.sqlite")
    seen.put_many({KEY: "sha256:a"})
    other = sqlite3.connect(tmp_path / "seen.sqlite")
    other.execute("BEGIN EXCLUSIVE")
    seen.put_many({OTHER: "sha256:b"})
    assert seen.get_many([KEY]) == {}
    other.rollback()
    other.close()
    assert seen.get_many([KEY, OTHER]) == {KEY: "sha256:a"}
