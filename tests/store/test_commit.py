"""A part appears whole or not at all, whatever stops its writer and whoever writes beside it."""

import errno
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from part_factory import make_set, ok_clip, part_folder, values_of, write_part

from mer_store.errors import MerStoreError, StoreDamagedError
from mer_store.store import commit, sweep
from mer_store.store.feature_set import FeatureSet
from mer_store.store.layout import Folders
from mer_store.store.record import part_id
from mer_store.store.store import Store
from mer_store.store.verify import verify
from mer_store.store.writer import ClipRows, PartWriter

CALLS = ("open", "write", "writev", "fsync", "fchmod", "rename", "link", "unlink", "mkdir", "chmod")
CLIPS = {"a": 300, "b": 0, "c": 1}
KILLED = 9


class Stop:
    """Replaces calls of the operating system by ones that stop the writer at the n-th of them."""

    def __init__(self, at, stop):
        self.at, self.stop, self.n = at, stop, 0
        self.real = {name: getattr(os, name) for name in CALLS}

    def install(self):
        for name, real in self.real.items():
            setattr(os, name, self._wrapped(real))

    def remove(self):
        for name, real in self.real.items():
            setattr(os, name, real)

    def _wrapped(self, real):
        def call(*args, **options):
            self.n += 1
            if self.n == self.at:
                self.stop()
            return real(*args, **options)

        return call


def eio():
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def write_and_die(feature_set, at):
    """In a process of its own, write a part and be killed at the `at`-th call; True if it got to the end."""
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, KILLED)
        return code == 0
    try:
        Stop(at, lambda: os._exit(KILLED)).install()
        write_part(feature_set, CLIPS, (18, 19))
        os._exit(0)
    finally:
        os._exit(1)


def check(path, record):
    """What was committed before is there, what is visible is whole."""
    feature_set = Store.open(path).features("audio")
    assert verify(feature_set, deep=True) == []
    np.testing.assert_array_equal(feature_set.ragged([18], ["z"])[0][:, 0], values_of("z", 18, 5))
    assert record.part_id in feature_set.part_ids()
    return feature_set


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_kill_at_any_call_loses_only_what_was_not_committed(tmp_path):
    n_committed, at, finished = 0, 0, False
    while not finished:
        at += 1
        path = tmp_path / str(at)
        feature_set = make_set(path)
        before = write_part(feature_set, {"z": 5})
        finished = write_and_die(feature_set, at)
        visible = check(path, before)
        committed = len(visible.part_ids()) == 2
        n_committed += committed
        swept = Store.open(path).sweep()
        assert swept.broken == ()
        assert not list((visible.path / "tmp").iterdir())
        assert all(p.suffix == ".json" for p in (visible.path / "commits").iterdir())
        record = write_part(visible, CLIPS, (18, 19))
        after = check(path, before)
        assert after.part_ids() == tuple(sorted([before.part_id, record.part_id]))
        for clip_id, rows in zip(CLIPS, after.ragged([19], list(CLIPS)), strict=True):
            np.testing.assert_array_equal(rows[:, 0], values_of(clip_id, 19, CLIPS[clip_id]))
    assert at > 60
    assert n_committed >= 2


def test_an_error_at_any_call_leaves_nothing_behind(tmp_path):
    at, finished = 0, False
    while not finished:
        at += 1
        path = tmp_path / str(at)
        feature_set = make_set(path)
        before = write_part(feature_set, {"z": 5})
        stop = Stop(at, eio)
        stop.install()
        try:
            write_part(feature_set, CLIPS, (18, 19))
            finished = stop.n < at
        except OSError as error:
            assert error.errno == errno.EIO  # noqa: PT017 - most of the calls raise, some are forgiven
        finally:
            stop.remove()
        check(path, before)
        assert not list((feature_set.path / "tmp").iterdir())
        write_part(feature_set, CLIPS, (18, 19))
        Store.open(path).sweep()
        check(path, before)
    assert at > 60


def test_a_whole_part_without_record_is_rolled_forward(tmp_path):
    feature_set = make_set(tmp_path)
    record = write_part(feature_set, CLIPS)
    path = feature_set.path / "commits" / f"{record.part_id}.json"
    text = path.read_bytes()
    path.unlink()
    feature_set.refresh()
    assert feature_set.clip_ids == ()
    assert Store.open(tmp_path).sweep().part_ids == (record.part_id,)
    assert path.read_bytes() == text
    assert Store.open(tmp_path).sweep().part_ids == ()


def test_a_copy_under_way_is_not_rolled_forward_and_not_removed(tmp_path):
    feature_set = make_set(tmp_path)
    record = write_part(feature_set, CLIPS)
    (feature_set.path / "commits" / f"{record.part_id}.json").unlink()
    (part_folder(feature_set, record) / "18" / "zarr.json").unlink()
    swept = Store.open(tmp_path).sweep()
    assert swept.part_ids == ()
    assert record.part_id in swept.broken[0]
    assert part_folder(feature_set, record).is_dir()
    again = write_part(feature_set, CLIPS)  # the same work puts a whole one in its place
    assert again == record
    assert verify(feature_set) == []


def test_a_record_whose_folder_is_gone_is_not_served_by_other_bytes(tmp_path):
    feature_set = make_set(tmp_path)
    record = write_part(feature_set, CLIPS)
    part_folder(feature_set, record).rename(tmp_path / "gone")
    with pytest.raises(StoreDamagedError, match="missing, yet its record"):
        write_part(feature_set, [ok_clip(c, n_rows=7) for c in CLIPS])


def test_the_second_writer_of_a_key_keeps_the_first_ones_part(tmp_path):
    feature_set = make_set(tmp_path)
    first = write_part(feature_set, CLIPS)
    second = write_part(feature_set, [ok_clip(c, n_rows=9, seed=3) for c in CLIPS])
    assert second == first
    np.testing.assert_array_equal(feature_set.ragged([18], ["a"])[0][:, 0], values_of("a", 18, 300))
    assert not list((feature_set.path / "tmp").iterdir())


def test_the_second_writer_helps_one_that_crashed_before_the_record(tmp_path, monkeypatch):
    feature_set = make_set(tmp_path)

    def crash(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(commit, "publish_record", crash)
        with pytest.raises(KeyboardInterrupt):
            write_part(feature_set, CLIPS)
    assert feature_set.part_ids() == ()
    record = write_part(feature_set, [ok_clip(c, n_rows=9, seed=3) for c in CLIPS])
    assert [row.n_rows for row in record.ledger] == list(CLIPS.values())
    assert verify(feature_set) == []


@pytest.mark.parametrize("refusal", [errno.EPERM, errno.EOPNOTSUPP])
def test_file_systems_without_links(tmp_path, monkeypatch, refusal):
    def link(*args, **options):
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(os, "link", link)
    feature_set = make_set(tmp_path)
    record = write_part(feature_set, CLIPS)
    assert feature_set.records() == [record]
    assert write_part(feature_set, CLIPS) == record


def race(path, barrier, seed, results):
    feature_set = make_set(path)
    with PartWriter(feature_set, (18,)) as writer:
        for clip_id, n_rows in CLIPS.items():
            writer.add(ok_clip(clip_id, n_rows=n_rows, seed=seed))
        barrier.wait()
        results.append(writer.commit().to_json())


def assert_one_whole_part(path, results):
    feature_set = make_set(path)
    assert len(set(results)) == 1
    (record,) = feature_set.records()
    assert record.to_json() == results[0]
    assert verify(feature_set) == []
    assert not list((feature_set.path / "tmp").iterdir())


def test_threads_with_one_key_make_one_part(tmp_path):
    for trial in range(5):
        path, results = tmp_path / str(trial), []
        barrier = threading.Barrier(4)
        threads = [
            threading.Thread(target=race, args=(path, barrier, seed, results)) for seed in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 4
        assert_one_whole_part(path, results)


RACE = """
import sys
from part_factory import make_set, ok_clip
from mer_store.store.writer import PartWriter
with PartWriter(make_set(sys.argv[1]), (18,)) as writer:
    for clip_id, n_rows in {"a": 300, "b": 0, "c": 1}.items():
        writer.add(ok_clip(clip_id, n_rows=n_rows, seed=int(sys.argv[2])))
    print("ready", flush=True)
    sys.stdin.readline()
    print(writer.commit().to_json(), end="")
"""


def test_processes_with_one_key_make_one_part(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(tmp_path), str(seed)],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for seed in range(2)
    ]  # fmt: skip
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    results = [worker.communicate(timeout=60)[0] for worker in workers]
    assert_one_whole_part(tmp_path, results)


def test_a_short_part_is_named_for_the_clips_it_has(tmp_path):
    feature_set = make_set(tmp_path)
    record = write_part(feature_set, [ok_clip("b"), ClipRows("a", "failed", "x")])
    assert record.part_id == part_id(feature_set.spec.fingerprint, ["a", "b"], [18], 0)
    assert record.part_id != part_id(feature_set.spec.fingerprint, ["a", "b", "c"], [18], 0)
    assert record.part_id != part_id(feature_set.spec.fingerprint, ["a", "b"], [18], 1)
    assert record.part_id != part_id(feature_set.spec.fingerprint, ["a", "b"], [18, 19], 0)


def test_a_sweep_leaves_living_writers_alone(tmp_path):
    feature_set = make_set(tmp_path)
    with PartWriter(feature_set, (18,)) as writer:
        writer.add(ok_clip("a"))
        assert Store.open(tmp_path).sweep().n_removed == 0
        writer.commit()
    assert feature_set.clip_ids == ("a",)


def test_a_sweep_judges_writers_by_host_process_and_age(tmp_path):
    folders = Folders(make_set(tmp_path).path)
    here, old = commit.host_name(), time.time() - sweep.OTHER_HOST_S - 60
    dead_pid = 2**22 + 1  # above any process id Linux gives
    expected = {
        folders.tmp / f"{here}-{dead_pid}-a": False,
        folders.tmp / f"{here}-{os.getpid()}-b": True,
        folders.tmp / f"{here}-1-c": True,
        folders.tmp / "other.1f-1-d": True,
        folders.tmp / "other.1f-1-e": False,
        folders.commits / f".{here}-{dead_pid}-f": False,
        folders.commits / f".{here}-{os.getpid()}-g": True,
    }
    for path in expected:
        (path / "18").mkdir(parents=True)
    os.utime(folders.tmp / "other.1f-1-e", (old, old))
    assert Store.open(tmp_path).sweep().n_removed == 3
    assert {path: path.exists() for path in expected} == expected


def test_a_writer_sees_its_own_part(tmp_path):
    feature_set = make_set(tmp_path)
    assert feature_set.clip_ids == ()
    write_part(feature_set, {"a": 1})
    assert feature_set.clip_ids == ("a",)
    other = FeatureSet(feature_set.path, feature_set.spec)
    assert other.clip_ids == ("a",)
    write_part(feature_set, {"b": 1})
    assert other.clip_ids == ("a",)
    other.refresh()
    assert other.clip_ids == ("a", "b")


def test_errors_have_one_base():
    assert issubclass(StoreDamagedError, MerStoreError)
