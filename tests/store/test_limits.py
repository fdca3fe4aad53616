"""A full disk, a store that may not be read, a process that forks: each has one clear outcome."""

import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from part_factory import make_set, part_folder, values_of, write_part

import mer_store
from mer_store.errors import StoreDamagedError, StoreFullError, UsageError
from mer_store.store import mappings
from mer_store.store.store import Store
from mer_store.store.verify import verify

TESTS = Path(__file__).parents[1]
NOBODY = 65534


def run_python(code, *args, **options):
    environment = os.environ | {"PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}"}
    command = [sys.executable, "-W", "error", "-c", code, *map(str, args)]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, **options
    )


FILL = """
import resource, sys
from part_factory import make_set, write_part
from mer_store.errors import StoreFullError
feature_set = make_set(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    write_part(feature_set, {"b": 2000}, (18, 19))
except StoreFullError as error:
    print(error)
    sys.exit(7)
"""


@pytest.mark.parametrize("limit_bytes", [0, 100, 1000, 5000, 16000])
def test_a_full_disk_touches_nothing_committed(tmp_path, limit_bytes):
    feature_set = make_set(tmp_path)
    record = write_part(feature_set, {"a": 5})
    result = run_python(FILL, tmp_path, limit_bytes)
    assert result.returncode == 7, result.stderr
    assert "cannot write: File too large" in result.stdout
    assert "untouched" in result.stdout
    assert not list((feature_set.path / "tmp").iterdir())
    assert Store.open(tmp_path).features("audio").records() == [record]
    assert verify(feature_set) == []
    write_part(feature_set, {"b": 2000}, (18, 19))
    assert verify(feature_set) == []


def test_no_space_is_a_full_store(tmp_path, monkeypatch):
    feature_set = make_set(tmp_path)

    def no_space(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "writev", no_space)
    with pytest.raises(StoreFullError, match="No space left on device"):
        write_part(feature_set, {"a": 5})
    assert not list((feature_set.path / "tmp").iterdir())


READ_AS_NOBODY = """
import os, sys
import mer_store, part_factory  # all that is needed, before this user may not import it
from mer_store.errors import UsageError
os.setgid(65534); os.setuid(65534)
try:
    store = mer_store.open(sys.argv[1])
    feature_set = store.features("audio")
    feature_set.ragged([18], ["a"])
except UsageError as error:
    print(error)
    sys.exit(7)
"""

CLOSED = {
    "the store": lambda path, _: path,
    "its features": lambda path, _: path / "features",
    "a modality": lambda path, _: path / "features" / "audio",
    "the commits": lambda _, feature_set: feature_set.path / "commits",
    "a part": lambda _, feature_set: next((feature_set.path / "parts").iterdir()),
    "a layer": lambda _, feature_set: next((feature_set.path / "parts").iterdir()) / "18",
}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("what", CLOSED)
def test_a_store_that_may_not_be_read_is_not_an_empty_one(tmp_path, what):
    path = tmp_path / "store"
    feature_set = make_set(path)
    write_part(feature_set, {"a": 5})
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_mode & stat.S_IXOTH == 0:
            parent.chmod(parent.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    assert run_python(READ_AS_NOBODY, path).returncode == 0
    CLOSED[what](path, feature_set).chmod(0o700)
    result = run_python(READ_AS_NOBODY, path)
    assert result.returncode == 7, result.stderr
    assert "permission denied" in result.stdout


@pytest.mark.parametrize("name", ["store.json", "spec.json", "commits"])
def test_a_refusal_raises_whoever_asks(tmp_path, monkeypatch, name):
    path = tmp_path / "store"
    write_part(make_set(path), {"a": 5})
    real_open, real_scandir = os.open, os.scandir

    def refuse(where, *args, **options):
        if Path(where).name == name:
            raise PermissionError(13, "Permission denied", str(where))
        return real_open(where, *args, **options)

    def refuse_scan(where):
        if Path(where).name == name:
            raise PermissionError(13, "Permission denied", str(where))
        return real_scandir(where)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "scandir", refuse_scan)
    with pytest.raises(UsageError, match="permission denied"):
        mer_store.open(path).features("audio").ledger(["a"])


@pytest.mark.parametrize("folder_mode", [0o755, 0o2775, 0o700])
def test_folders_take_the_stores_mode_whatever_the_umask(tmp_path, folder_mode):
    path = tmp_path / "store"
    path.mkdir()
    path.chmod(folder_mode)
    before = os.umask(0o077)
    try:
        feature_set = make_set(path)
        record = write_part(feature_set, {"a": 5})
    finally:
        os.umask(before)
    feature_set.refresh()
    part = part_folder(feature_set, record)
    made = [path / "features", feature_set.path / "tmp", part, part / "18" / "c" / "0"]
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in made} == {folder_mode}
    assert stat.S_IMODE((path / "store.json").stat().st_mode) == 0o444


def test_a_store_that_may_not_be_written_is_read_all_the_same(tmp_path, monkeypatch):
    feature_set = make_set(tmp_path)
    write_part(feature_set, {"a": 5})
    (tmp_path / ".cache").write_text("a file where the folder should be")
    assert Store.open(tmp_path).features("audio").clip_ids == ("a",)


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_reading_goes_on_after_a_fork(tmp_path):
    feature_set = make_set(tmp_path, "utterance")
    ids = [f"c{n}" for n in range(50)]
    write_part(feature_set, dict.fromkeys(ids, 1))
    expected = feature_set.read([18], ids)
    with mappings.MAPPINGS._lock:  # as if another thread were reading just now
        children = [os.fork() for _ in range(2)]
        if 0 in children:
            same = np.array_equal(feature_set.read([18], ids[::-1]), expected[::-1])
            os._exit(0 if same else 1)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    np.testing.assert_array_equal(feature_set.read([18], ids), expected)


def n_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_file_descriptors_do_not_run_out(tmp_path, monkeypatch):
    feature_set = make_set(tmp_path)
    for n in range(30):
        write_part(feature_set, {f"c{n}": 2})
    feature_set.refresh()
    monkeypatch.setattr(mappings.MAPPINGS, "limit", 4)
    n_before = n_descriptors()
    ids = [f"c{n}" for n in range(30)]
    for _ in range(2):
        for clip_id, rows in zip(ids, feature_set.ragged([18], ids), strict=True):
            np.testing.assert_array_equal(rows[:, 0], values_of(clip_id, 18, 2))
    assert n_descriptors() <= n_before + 2 * 4 + 1
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 4


def test_importing_mer_store_is_light():
    code = (
        "import sys, mer_store; mer_store.__version__; "
        "sys.exit(bool({'numpy', 'zarr', 'torch'} & set(sys.modules)))"
    )
    assert run_python(code).returncode == 0


def test_not_a_store(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UsageError, match="run `mer-store init"):
            mer_store.open(path)
    with pytest.raises(UsageError, match="mer-store pull s3://x"):
        Store.open("s3://x")
    store = Store.create(tmp_path)
    assert Store.create(tmp_path).path == store.path
    (tmp_path / "store.json").chmod(0o644)
    (tmp_path / "store.json").write_text('{"format": 2}')
    with pytest.raises(UsageError, match="format 2"):
        mer_store.open(tmp_path)
    (tmp_path / "store.json").write_text("{}")
    with pytest.raises(StoreDamagedError, match=r"store\.json"):
        mer_store.open(tmp_path)
