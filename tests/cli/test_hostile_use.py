"""Folders, names and lists that people get wrong: a message, an exit code, never a traceback."""

import json
import os
import subprocess
import sys

import pytest
from media_factory import make_wav

from mer_store.store.store import Store
from mer_store.store.verify import verify

AUDIO = ["extract", "--modality", "audio", "--model", "tiny", "--layers", "3", "--decoders", "1"]
PROGRAM = [sys.executable, "-c", "from mer_store.cli import main; main()"]


def run(shell, *words: str, code: int = 0):
    """Like `shell`, for words that hold spaces."""

    class Line(str):
        __slots__ = ()

        def split(self):
            return list(words)

    return shell(Line(), code=code)


@pytest.mark.parametrize(("store", "message"), [
    ("c0.wav", "no store can be made there"),
    ("c0.wav/store", "no store can be made there"),
    ("/proc/store", "no store can be made there"),
    ("", "expected a path"),
    ("s3://bucket/store", "mer-store pull s3://bucket/store"),
])  # fmt: skip
def test_stores_that_cannot_be(four_clips, store, message):
    before = sorted(four_clips.folder.iterdir())
    assert message in run(four_clips, *AUDIO, "--store", store, code=2).stderr
    assert sorted(four_clips.folder.iterdir()) == before


def test_a_store_that_may_not_be_written_can_be_asked(four_clips, monkeypatch):
    run(four_clips, *AUDIO, code=1)
    monkeypatch.setattr("mer_store.store.store.put_file", lambda *args: pytest.fail("written"))
    assert "0 to do" in run(four_clips, *AUDIO, code=1).stderr


def test_a_read_only_file_system(four_clips, monkeypatch):
    real_open = os.open

    def refuse(*args):
        raise OSError(30, os.strerror(30), "store/x")

    def refuse_writing(path, flags, *args, **options):
        return real_open(path, flags, *args, **options) if not flags & os.O_CREAT else refuse()

    four_clips("init")
    monkeypatch.setattr("mer_store.store.layout.os.open", refuse_writing)
    monkeypatch.setattr("mer_store.store.layout.os.mkdir", refuse)
    assert "read-only file system" in run(four_clips, *AUDIO, code=2).stderr.lower()


@pytest.mark.parametrize(("content", "message"), [
    (b"", "expected a header"),
    (b"clip_id,path\n", "no clips"),
    (b"name,file\na,b\n", "expected a header"),
    (b"\xff\xfe\x00", "UTF-8"),
])  # fmt: skip
def test_lists_that_list_nothing(four_clips, content, message):
    (four_clips.folder / "odd.csv").write_bytes(content)
    assert message in run(four_clips, *AUDIO, "--clips", "odd.csv", code=2).stderr


def test_a_clip_id_that_cannot_be_stored_does_not_end_the_run(four_clips):
    four_clips.clip_list(f"{'长' * 90},c0.wav,", "片段 一,c1.wav,", '"a,b",c2.wav,', "x/..,c0.wav,")
    found = run(four_clips, *AUDIO, "--json", code=1)
    assert json.loads(found.stdout)["n_ok"] == 2
    assert "at most 200" in found.stderr
    four_clips.clip_list(f"{'长' * 90},c0.wav,", "片段 一,c1.wav,")
    run(four_clips, *AUDIO, code=1)  # said again, and not passed over in silence


def test_folders_of_any_name_from_anywhere(tmp_path):
    folder = tmp_path / os.fsdecode("数据 集 ".encode() + b"\xff")
    folder.mkdir()
    make_wav(folder / "你 好.wav", 0.3)
    (folder / "clips.csv").write_text("clip_id,path\n片段 一,你 好.wav\n", encoding="utf-8")
    line = [*PROGRAM, *AUDIO, "--clips", str(folder / "clips.csv"), "--store", str(folder / "st")]
    for _ in range(2):  # the second time the file is touched, and must be looked at
        done = subprocess.run(line, cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        os.utime(folder / "你 好.wav")
    assert "1 stored: 0 to do" in done.stderr
    assert verify(Store.open(folder / "st"), deep=True) == []


def test_two_at_once_on_the_same_clips(four_clips):
    line = [*PROGRAM, *AUDIO, "--part-clips", "1", "--json"]
    both = [
        subprocess.Popen(
            line, cwd=four_clips.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 1, err.decode()
        assert len(out.splitlines()) == 1
        assert b"Traceback" not in err
    [features] = Store.open(four_clips.folder / "store").feature_sets()
    listed = [row.clip_id for record in features.records() for row in record.ledger]
    assert sorted(listed) == ["bad", "c0", "c1", "c2"]
    assert list((features.path / "tmp").iterdir()) == []
