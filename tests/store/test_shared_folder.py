"""A store that a group shares: members add and verify, nobody changes or deletes another's parts."""

import grp
import json
import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from part_factory import make_set, part_folder, write_part

from mer_store.errors import UsageError
from mer_store.store.commit import derive_record, writer_name
from mer_store.store.layout import Folders
from mer_store.store.shared import FOLDER_MODE, seal, unseal
from mer_store.store.store import Store
from mer_store.store.verify import verify

ANNA, BEN, STRANGER = 64101, 64102, 64103
TEAM, NOBODY = 64100, 64199
pytestmark = pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become other users")
UMASKS = [0o077, 0o000]

BYTES = (
    "write a shard", "open up a shard", "remove a shard", "replace a shard", "add to the part",
    "add to a layer", "open up the part", "move the part away", "write the record",
)  # fmt: skip


def init(path, group=TEAM):
    return str(Store.create(path, str(group)).path)


def add(path, *clips):
    return write_part(make_set(path), dict.fromkeys(clips, 3)).part_id


def read(path):
    (feature_set,) = Store.open(path).feature_sets()
    feature_set.ragged([18])
    return list(feature_set.clip_ids)


def check(path):
    return [str(finding) for finding in verify(Store.open(path), deep=True)]


def sweep(path):
    return list(Store.open(path).sweep().part_ids)


def vandalise(path, part_id, ways=None):
    """Try to change or remove a part in many ways; return those that were not refused."""
    (feature_set,) = Store.open(path).feature_sets()
    part, commit = feature_set.path / "parts" / part_id, Folders(feature_set.path).commit(part_id)
    shard, other = part / "18" / "c" / "0" / "0", commit.with_name(f".{os.getpid()}")
    other.write_text("{}")
    actions = {
        "write a shard": lambda: os.open(shard, os.O_WRONLY),
        "open up a shard": lambda: shard.chmod(0o666),
        "remove a shard": shard.unlink,
        "replace a shard": lambda: shard.rename(part / "x"),
        "add to the part": lambda: (part / "x").write_text("x"),
        "add to a layer": lambda: (part / "18" / "x").write_text("x"),
        "open up the part": lambda: part.chmod(0o777),
        "move the part away": lambda: part.rename(feature_set.path / "tmp" / "x"),
        "write the record": lambda: os.open(commit, os.O_WRONLY),
        "rename the part": lambda: part.rename(part.with_name("x")),
        "remove the record": commit.unlink,
        "replace the record": lambda: other.rename(commit),
        "remove the spec": (feature_set.path / "spec.json").unlink,
        "remove the store file": (path / "store.json").unlink,
        "move the set": lambda: feature_set.path.rename(feature_set.path.with_name("x")),
    }
    done = [way for way in ways or actions if not refused(actions[way])]
    other.unlink()
    return done


def refused(action):
    try:
        action()
    except PermissionError:
        return True
    return False


@pytest.fixture
def place():
    """A folder that every user reaches."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def member(user, action, *arguments, umask=0o022, groups=(TEAM,)):
    """Let a user do something in a process of its own; return what came of it."""
    back, out = os.pipe()
    child = os.fork()
    if not child:
        outcome = {"error": "it did not come to an end"}
        try:
            os.setgroups(groups)
            os.setgid(groups[0])
            os.setuid(user)
            os.umask(umask)
            outcome = action(*arguments)
        except BaseException as error:  # noqa: BLE001 - the child must not go on as pytest
            outcome = {"error": f"{type(error).__name__}: {error}"}
        finally:
            os.write(out, json.dumps(outcome).encode())
            os._exit(0)
    os.close(out)
    with os.fdopen(back) as answer:
        outcome = json.load(answer)
    os.waitpid(child, 0)
    return outcome


def modes(root):
    """Modes of all folders below, and of all files."""
    folders, files = set(), set()
    for path in root.rglob("*"):
        if ".cache" not in path.parts:
            (folders if path.is_dir() else files).add(stat.S_IMODE(path.lstat().st_mode))
    return folders, files


@needs_root
@pytest.mark.parametrize("umask", UMASKS)
def test_a_group_adds_and_verifies_and_nobody_changes_anothers(place, umask):
    path = place / "store"
    path.mkdir()
    os.chown(path, ANNA, TEAM)
    member(ANNA, init, path, umask=umask)
    of_anna = member(ANNA, add, path, "a", "b", umask=umask)
    of_ben = member(BEN, add, path, "c", umask=umask)
    for user in (ANNA, BEN):
        assert member(user, read, path) == ["a", "b", "c"]
        assert member(user, check, path) == []
    assert member(BEN, vandalise, path, of_anna, umask=umask) == []
    assert member(ANNA, check, path) == []
    # Whoever made the folder of a feature set may take entries from it, but no bytes of another's part.
    assert member(ANNA, vandalise, path, of_ben, BYTES, umask=umask) == []
    assert member(ANNA, check, path) == []


@needs_root
@pytest.mark.parametrize("umask", UMASKS)
def test_modes_whatever_the_umask(place, umask):
    path = place / "store"
    path.mkdir()
    os.chown(path, ANNA, TEAM)
    member(ANNA, init, path, umask=umask)
    member(ANNA, add, path, "a", umask=umask)
    member(BEN, add, path, "b", umask=umask)
    (parts,) = path.glob("features/*/*/parts")
    for part in parts.iterdir():
        assert modes(part) == ({0o555}, {0o444})
        assert stat.S_IMODE(part.stat().st_mode) == 0o555
    assert modes(path) == ({FOLDER_MODE, 0o555}, {0o444})
    assert {each.stat().st_gid for each in path.rglob("*")} == {TEAM}


@needs_root
def test_work_of_two_at_once_is_kept_once(place):
    path = place / "store"
    path.mkdir()
    os.chown(path, ANNA, TEAM)
    member(ANNA, init, path, umask=0o077)
    assert member(ANNA, add, path, "a", umask=0o077) == member(BEN, add, path, "a", umask=0o077)
    assert member(BEN, sweep, path) == []
    assert member(BEN, check, path) == []
    (tmp,) = path.glob("features/*/*/tmp")
    assert list(tmp.iterdir()) == []


@needs_root
def test_another_member_publishes_what_a_crash_left(place):
    path = place / "store"
    path.mkdir()
    os.chown(path, ANNA, TEAM)
    member(ANNA, init, path)
    part_id = member(ANNA, add, path, "a", umask=0o077)
    (commit,) = path.glob("features/*/*/commits/*.json")
    commit.unlink()
    assert member(BEN, sweep, path) == [part_id]
    assert member(ANNA, read, path) == ["a"]


@needs_root
@pytest.mark.parametrize("what", ["", "features", "features/*/*/commits", "features/*/*/parts"])
def test_who_may_not_read_is_told_so(place, what):
    path = place / "store"
    path.mkdir()
    os.chown(path, ANNA, TEAM)
    member(ANNA, init, path)
    member(ANNA, add, path, "a")
    (closed,) = path.glob(what) if what else [path]
    closed.chmod(0o3770)
    outcome = member(STRANGER, read, path, groups=(NOBODY,))
    assert "permission denied" in outcome["error"]
    assert member(BEN, read, path) == ["a"]


@needs_root
def test_who_is_not_in_the_group_cannot_give_it_away(place):
    path = place / "store"
    path.mkdir()
    os.chown(path, ANNA, NOBODY)
    outcome = member(ANNA, init, path, groups=(NOBODY,))
    assert "UsageError" in outcome["error"]
    assert "name a group that `groups` lists" in outcome["error"]


def own_group():
    return grp.getgrgid(os.getgid()).gr_name


def test_a_store_is_made_for_a_group_by_name(tmp_path):
    path = tmp_path / "store"
    store = Store.create(path, own_group())
    assert stat.S_IMODE(path.stat().st_mode) == FOLDER_MODE
    record = write_part(make_set(path), {"a": 3})
    (feature_set,) = store.feature_sets()
    part = part_folder(feature_set, record)
    assert modes(part) == ({0o555}, {0o444})
    assert verify(store, deep=True) == []
    assert derive_record(part) == record
    assert Store.create(path, own_group()).path == path
    unseal(part)


def test_a_group_that_is_none(tmp_path):
    with pytest.raises(UsageError, match="none of that name"):
        Store.create(tmp_path / "store", "no-such-group")


def test_a_store_that_is_there_is_not_given_away(tmp_path):
    Store.create(tmp_path)
    with pytest.raises(UsageError, match="there already"):
        Store.create(tmp_path, own_group())


def test_sealed_parts_can_be_moved_by_their_owner(tmp_path):
    path = tmp_path / "store"
    Store.create(path, own_group())
    feature_set = make_set(path)
    record = write_part(feature_set, {"a": 3})
    part = part_folder(feature_set, record)
    unseal(part)
    away = Folders(feature_set.path).tmp / writer_name()
    part.rename(away)
    assert modes(away)[0] == {0o700}
    away.rename(part)
    seal(part)
    assert modes(part)[0] == {0o555}
    unseal(part)
    shutil.rmtree(part)


@pytest.mark.parametrize("folder_mode", [0o755, 0o2775, 0o700])
def test_other_stores_are_not_sealed(tmp_path, folder_mode):
    path = tmp_path / "store"
    path.mkdir()
    path.chmod(folder_mode)
    record = write_part(make_set(path), {"a": 3})
    (feature_set,) = Store.open(path).feature_sets()
    assert modes(part_folder(feature_set, record))[0] == {folder_mode}
