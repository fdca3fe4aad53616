"""What is broken is moved aside, record first; nothing is deleted, and all else can be read."""

import os
import shutil
import stat

import numpy as np
import pytest
from part_factory import make_set, ok_clip, part_folder, values_of, write_part

from mer_store.store.repair import lost, repair
from mer_store.store.store import Store
from mer_store.store.verify import verify
from mer_store.store.writer import ClipRows

GOOD, BAD = ("g0", "g1"), ("b0", "b1")
RECORD_ALONE = ("no JSON", "cut record", "other record", "changed record")


@pytest.fixture
def feature_set(tmp_path):
    feature_set = make_set(tmp_path / "store")
    write_part(feature_set, [ok_clip(c, (18, 19)) for c in GOOD], (18, 19))
    failed = ClipRows("f", "failed", "truncated")
    write_part(feature_set, [*(ok_clip(c, (18, 19), 300) for c in BAD), failed], (18, 19))
    return feature_set


def store_of(feature_set):
    return Store.open(feature_set.path.parents[2])


def bad_record(feature_set):
    return next(record for record in feature_set.records() if BAD[0] in record.clip_ids)


def writable(path):
    path.chmod(0o644)
    return path


def damage(feature_set, how):
    """Break the part of `BAD` in one way."""
    record = bad_record(feature_set)
    part = part_folder(feature_set, record)
    commit = writable(feature_set.path / "commits" / f"{record.part_id}.json")
    shard = writable(part / "18" / "c" / "0" / "0")
    data, text = shard.read_bytes(), commit.read_bytes()
    actions = {
        "flipped bit": lambda: shard.write_bytes(bytes([data[0] ^ 1]) + data[1:]),
        "cut file": lambda: shard.write_bytes(data[:-9]),
        "missing file": shard.unlink,
        "a link": lambda: (shard.unlink(), shard.symlink_to("/etc/passwd")),
        "missing folder": lambda: shutil.rmtree(part),
        "a file for a folder": lambda: (shutil.rmtree(part), part.write_text("")),
        "no JSON": lambda: commit.write_text("{"),
        "cut record": lambda: commit.write_bytes(text[:-100]),
        "other record": lambda: commit.write_bytes((feature_set.path / "spec.json").read_bytes()),
        "changed record": lambda: commit.write_bytes(text.replace(b"truncated", b"untouched")),
        "record and file": lambda: (commit.write_text(""), shard.unlink()),
    }
    actions[how]()
    feature_set.forget()
    return record


WAYS = (
    "flipped bit", "cut file", "missing file", "a link", "missing folder", "a file for a folder",
    *RECORD_ALONE, "record and file",
)  # fmt: skip


def names_of(path):
    return {p.relative_to(path).as_posix() for p in path.rglob("*") if not p.is_dir()}


def check_good(feature_set):
    rows = store_of(feature_set).features("audio").ragged([18], list(GOOD))
    for clip_id, values in zip(GOOD, rows, strict=True):
        np.testing.assert_array_equal(values[:, 0], values_of(clip_id, 18, 3))


@pytest.mark.parametrize("how", WAYS)
def test_what_is_broken_is_moved_and_all_else_is_read(feature_set, how):
    store_of(feature_set).features("audio").index  # noqa: B018 - fills the cached index
    record = damage(feature_set, how)
    n_files = len(names_of(feature_set.path))
    (moved,) = repair(store_of(feature_set), verify(store_of(feature_set)))
    assert (moved.part_id, moved.refused) == (record.part_id, None)
    assert moved.recovered == (how in RECORD_ALONE)
    assert moved.to == f"features/audio/{feature_set.name}/quarantine/{record.part_id}-1"
    assert len(names_of(feature_set.path)) == n_files + moved.recovered
    assert verify(store_of(feature_set), deep=True) == []
    check_good(feature_set)
    after = store_of(feature_set).features("audio")
    missing = lost(store_of(feature_set), [moved])
    if moved.recovered:
        assert missing == []
        assert after.records()[-1 if after.records()[0].clip_ids == GOOD else 0] == record
        return
    assert after.clip_ids == GOOD
    if how in ("missing folder", "record and file", "a file for a folder", "missing file"):
        assert not (feature_set.path / "parts" / record.part_id).exists()
    if how != "record and file":
        (one,) = missing
        assert (one.layers, one.clip_ids) == ((18, 19), ("b0", "b1", "f"))
    write_part(feature_set, [ok_clip(c, (18, 19), 300) for c in BAD], (18, 19))
    assert verify(store_of(feature_set)) == []


def test_a_dry_run_only_tells(feature_set):
    damage(feature_set, "cut file")
    findings, before = verify(store_of(feature_set)), names_of(feature_set.path)
    (moved,) = repair(store_of(feature_set), findings, dry_run=True)
    assert (moved.layers, moved.clip_ids, moved.to) == ((18, 19), ("b0", "b1", "f"), "")
    assert names_of(feature_set.path) == before


def test_strays_are_moved_and_the_part_stays(feature_set):
    record = bad_record(feature_set)
    part = part_folder(feature_set, record)
    store = store_of(feature_set)
    places = [
        part / "18" / "c" / "0" / "1",
        feature_set.path / "notes.txt",
        feature_set.path / "commits" / "x.json",
        feature_set.path / "parts" / "old",
        store.path / "features" / "readme",
        store.path / "features" / "audio" / "link",
    ]
    for place in places[:-1]:
        place.write_text("x")
    places[-1].symlink_to("/etc")
    findings = verify(store)
    assert {f.scope for f in findings} == {"stray"}
    assert len(findings) == len(places)
    assert all(not f.clip_ids for f in findings)
    moved = repair(store, findings)
    assert not any(os.path.lexists(place) for place in places)
    assert verify(store) == []
    assert lost(store, moved) == []
    home = feature_set.path / "quarantine"
    assert (home / f"{record.part_id}-1" / "stray/parts" / record.part_id / "18/c/0/1").is_file()
    assert (home / "stray-1" / "stray" / "commits" / "x.json").is_file()
    assert len(store.features("audio").ragged([18], [*GOOD, *BAD])) == 4


@pytest.mark.parametrize("how", ["no JSON", "other spec", "missing", "wrong name"])
def test_a_feature_set_that_cannot_be_opened_is_moved_as_a_whole(feature_set, tmp_path, how):
    store = store_of(feature_set)
    other = make_set(store.path, recipe="other")
    write_part(other, {"z": 1})
    spec, path = writable(feature_set.path / "spec.json"), feature_set.path
    if how == "no JSON":
        spec.write_text("{")
    elif how == "other spec":
        spec.write_bytes((other.path / "spec.json").read_bytes())
    elif how == "missing":
        spec.unlink()
    else:
        path = path.rename(path.with_name("renamed"))
    (finding,) = verify(store)
    assert (finding.scope, finding.path) == ("feature set", "spec.json")
    (moved,) = repair(store, [finding])
    assert moved.to == f"quarantine/audio-{path.name}-1"
    assert verify(store) == []
    assert store.features("audio").clip_ids == ("z",)
    assert len(list((store.path / moved.to / path.name / "commits").iterdir())) == 2


def test_values_that_are_wrong_inside_sound_files_are_moved_too(feature_set, monkeypatch):
    from mer_store.store import part_files

    real = part_files.clip_checks
    monkeypatch.setattr(part_files, "clip_checks", lambda *args: real(*args) ^ np.uint32(1))
    write_part(feature_set, {"x": 2, "y": 1}, (18,))
    monkeypatch.undo()
    store = store_of(feature_set)
    assert verify(store) == []
    (finding,) = verify(store, deep=True)
    assert (finding.layers, finding.clip_ids) == ((18,), ("x", "y"))
    (moved,) = repair(store, [finding])
    assert (moved.recovered, moved.clip_ids) == (False, ("x", "y"))
    assert verify(store, deep=True) == []
    store.sweep()
    assert verify(store, deep=True) == []


def test_in_a_shared_store_finished_parts_stay_sealed(tmp_path):
    store = Store.create(tmp_path / "store", group=str(os.getgid()))
    feature_set = make_set(store.path)
    record, other = (write_part(feature_set, {c: 1}) for c in ("x", "y"))
    folder = part_folder(feature_set, record) / "18"
    assert folder.stat().st_mode & 0o222 == 0
    folder.chmod(0o755)
    (folder / "stray").write_text("x")
    folder.chmod(0o555)
    writable(part_folder(feature_set, other) / "18" / "c" / "0" / "0").write_bytes(b"")
    assert {m.scope for m in repair(store, verify(store))} == {"stray", "part"}
    assert verify(store) == []
    assert stat.S_IMODE(folder.stat().st_mode) == 0o555
    assert store.features("audio").clip_ids == ("x",)


class Stop(Exception):  # noqa: N818
    """The process is gone."""


@pytest.mark.parametrize("how", ["flipped bit", "no JSON", "record and file"])
def test_stopped_at_any_step_the_next_run_finishes(feature_set, tmp_path, how):
    damage(feature_set, how)
    store, n_files = store_of(feature_set), None
    whole = shutil.copytree(store.path, tmp_path / "whole", symlinks=True)
    calls = ("rename", "mkdir", "link", "unlink", "fsync", "chmod")
    for at in range(1, 200):
        shutil.rmtree(store.path)
        shutil.copytree(whole, store.path, symlinks=True)
        findings = verify(store)
        if stopped_at(at, calls, lambda findings=findings: repair(store, findings)):
            break
        if how == "flipped bit":
            check_good(feature_set)
        findings = verify(store)
        repair(store, findings)
        store.sweep()
        assert verify(store, deep=True) == []
        check_good(feature_set)
        left = [p for p in names_of(store.path) if "/." not in f"/{p}"]  # no index, no temporary
        n_files = n_files or len(left)
        assert len(left) == n_files
    assert at > 8


def stopped_at(at, calls, run):
    """Raise `Stop` at the n-th of the calls; tell whether the run got to its end."""
    n = 0

    def wrapped(real):
        def call(*args, **options):
            nonlocal n
            n += 1
            if n == at:
                raise Stop
            return real(*args, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in calls:
            patch.setattr(os, name, wrapped(getattr(os, name)))
        try:
            run()
        except Stop:
            return False
    return True


def test_what_belongs_to_another_user_is_told_and_left(feature_set, monkeypatch):
    damage(feature_set, "cut file")
    store = store_of(feature_set)

    def refuse(path, to):
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(os, "rename", refuse)
    (moved,) = repair(store, verify(store))
    assert "another user" in moved.refused
    assert moved.to == ""
    assert len(verify(store)) == 1
