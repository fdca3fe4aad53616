"""Pruning: a dry run by default, records before folders, nothing that anybody needs."""

import os

import pytest
from part_factory import digest_of, make_set, ok_clip, part_folder, write_part
from store_view import view

from mer_store.store import prune as prune_module
from mer_store.store.prune import prune
from mer_store.store.repair import repair
from mer_store.store.store import Store
from mer_store.store.verify import verify
from mer_store.store.writer import ClipRows


def part_names(feature_set):
    return sorted(path.name for path in (feature_set.path / "parts").iterdir())


@pytest.fixture
def feature_set(tmp_path):
    """Parts: of old media, a copy of the layers, what replaces both, and clips nobody else has."""
    feature_set = make_set(tmp_path)
    feature_set.old = write_part(feature_set, [ok_clip("a", digest=digest_of("old"))], (18,), 0)
    feature_set.copy = write_part(feature_set, [ok_clip("a")], (18,), 1)
    feature_set.new = write_part(feature_set, [ok_clip("a", (18, 19))], (18, 19), 2)
    feature_set.only = write_part(
        feature_set, [ok_clip("b"), ClipRows("c", "failed", "truncated", digest_of("c"))], (18,), 0
    )
    return feature_set


def kept(feature_set):
    return sorted([feature_set.new.part_id, feature_set.only.part_id])


def test_a_dry_run_tells_what_can_go_and_how_much(feature_set, tmp_path):
    before = part_names(feature_set)
    found = {item.part_id: item for item in prune(Store.open(tmp_path))}
    assert {part_id: item.why for part_id, item in found.items()} == {
        feature_set.old.part_id: "stale",
        feature_set.copy.part_id: "superseded",
    }
    assert found[feature_set.copy.part_id].n_bytes == feature_set.copy.n_bytes
    assert not any(item.freed for item in found.values())
    assert part_names(feature_set) == before
    assert len(feature_set.part_ids()) == 4


def test_bytes_go_when_no_reader_can_be_at_work_any_more(feature_set, tmp_path):
    before = view(tmp_path, "abc", [18, 19])
    store = Store.open(tmp_path)
    assert [item.freed for item in prune(store, yes=True)] == [False, False]
    assert list(feature_set.part_ids()) == kept(feature_set)
    assert len(part_names(feature_set)) == 4
    assert verify(store, deep=True) == []
    assert [item.why for item in prune(store, yes=True)] == ["withdrawn", "withdrawn"]
    notes = list((feature_set.path / "withdrawn").iterdir())
    for note in notes:
        os.utime(note, (1, 1))
    assert [item.freed for item in prune(store, yes=True)] == [True, True]
    assert part_names(feature_set) == kept(feature_set)
    assert list((feature_set.path / "withdrawn").iterdir()) == []
    assert prune(store, yes=True) == []
    assert view(tmp_path, "abc", [18, 19]) == before


def test_a_part_that_is_made_again_meanwhile_is_not_deleted(feature_set, tmp_path):
    store = Store.open(tmp_path)
    prune(store, yes=True)
    write_part(feature_set, [ok_clip("a", digest=digest_of("old"))], (18,), 0)  # the same work
    assert feature_set.old.part_id in feature_set.part_ids()
    for note in (feature_set.path / "withdrawn").iterdir():
        os.utime(note, (1, 1))
    assert [item.freed for item in prune(store, yes=True)] == [True, False]
    assert verify(store, deep=True) == []
    assert feature_set.old.part_id in part_names(feature_set)


def test_stopped_between_any_two_steps_no_answer_changes(feature_set, tmp_path, monkeypatch):
    before = view(tmp_path, "abc", [18, 19])
    for name in ("_withdraw", "_delete"):
        real, seen = getattr(prune_module._Pruning, name), []

        def stop(self, *args, real=real, seen=seen):
            seen.append(1)
            if len(seen) == 2:
                raise KeyboardInterrupt
            real(self, *args)

        monkeypatch.setattr(prune_module._Pruning, name, stop)
        with pytest.raises(KeyboardInterrupt):
            prune(Store.open(tmp_path), yes=True, older_than_s=0)
        monkeypatch.undo()
        Store.open(tmp_path).sweep()
        assert view(tmp_path, "abc", [18, 19]) == before
        assert verify(Store.open(tmp_path), deep=True) == []
    prune(Store.open(tmp_path), yes=True, older_than_s=0)
    assert part_names(feature_set) == kept(feature_set)
    assert view(tmp_path, "abc", [18, 19]) == before


def test_what_another_user_put_there_is_told_and_the_rest_goes(feature_set, tmp_path, monkeypatch):
    real, theirs = os.unlink, f"{feature_set.copy.part_id}.json"

    def unlink(path, *args, **options):
        if str(path).endswith(f"commits/{theirs}"):
            raise PermissionError(1, "Operation not permitted", str(path))
        real(path, *args, **options)

    monkeypatch.setattr(os, "unlink", unlink)
    found = {item.part_id: item for item in prune(Store.open(tmp_path), yes=True, older_than_s=0)}
    assert "another user" in found[feature_set.copy.part_id].refused
    assert found[feature_set.old.part_id].freed
    assert list((feature_set.path / "withdrawn").iterdir()) == []
    assert feature_set.copy.part_id in feature_set.part_ids()
    assert verify(Store.open(tmp_path)) == []


def test_a_damaged_twin_is_no_reason_to_go(tmp_path):
    feature_set = make_set(tmp_path)
    small = write_part(feature_set, [ok_clip("a")])
    large = write_part(feature_set, [ok_clip("a"), ok_clip("b")])
    assert [item.part_id for item in prune(Store.open(tmp_path))] == [small.part_id]
    checks = part_folder(feature_set, large) / "crc32c" / "c" / "0" / "0"
    checks.chmod(0o644)
    checks.write_bytes(bytes(len(checks.read_bytes())))
    found = [item.part_id for item in prune(Store.open(tmp_path))]
    assert found == ([] if small.part_id < large.part_id else [small.part_id])


def test_quarantine_is_emptied_only_on_demand(feature_set, tmp_path):
    store = Store.open(tmp_path)
    (feature_set.path / "parts" / "stray").write_text("x" * 7)
    (store.path / "features" / "note").write_text("y")
    repair(store, verify(store))
    prune(store, yes=True, older_than_s=0)
    assert len(list(store.path.glob("**/quarantine/stray-1"))) == 2
    found = [i for i in prune(store, quarantine=True) if i.why == "quarantine"]
    assert sorted(item.n_bytes for item in found) == [1, 7]
    found = prune(store, yes=True, quarantine=True)
    assert [item.freed for item in found] == [True, True]
    assert list(store.path.glob("**/quarantine/*")) == []


def test_a_reader_that_opens_the_store_while_parts_go(feature_set, tmp_path, monkeypatch):
    from mer_store.store import feature_set as module

    real = module.read_record

    def read_record(folders, part_id):
        monkeypatch.setattr(module, "read_record", real)
        prune(Store.open(tmp_path), yes=True, older_than_s=0)
        return real(folders, feature_set.old.part_id)

    monkeypatch.setattr(module, "read_record", read_record)
    reader = Store.open(tmp_path).features("audio")
    assert reader.clip_ids == ("a", "b")
    assert [part.part_id for part in reader.index.parts] == kept(feature_set)
