import hashlib
import os

import pytest
from media_factory import bad_clips

from extractors.contract import ClipFailed
from extractors.media import blob as blob_module
from extractors.media.audio import decode_audio
from extractors.media.blob import read_blob, text_blob


def test_blob_is_the_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"some bytes")
    os.utime(path, ns=(1_700_000_000_123_456_789, 1_700_000_000_123_456_789))
    blob = read_blob("a", path)
    assert blob.clip_id == "a"
    assert blob.path == path
    assert blob.data == b"some bytes"
    assert blob.origin.digest == f"sha256:{hashlib.sha256(b'some bytes').hexdigest()}"
    assert blob.origin.n_bytes == 10
    assert blob.origin.mtime_ns == 1_700_000_000_123_456_789


def test_large_file_is_hashed_but_not_held_and_still_decodes(tmp_path, monkeypatch):
    path = bad_clips(tmp_path)["wrong_extension"]
    held = read_blob("a", path)
    monkeypatch.setattr(blob_module, "MAX_HELD_BYTES", 100)
    large = read_blob("a", path)
    assert large.data is None
    assert large.origin == held.origin
    assert (decode_audio(large) == decode_audio(held)).all()
    assert len(decode_audio(large, program=True)) == len(decode_audio(held))
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(ClipFailed, match="changed after it was hashed"):
        decode_audio(large)


def test_text_blob():
    blob = text_blob("a", "你好")
    assert blob.data == "你好".encode()
    assert blob.origin.digest == f"sha256:{hashlib.sha256('你好'.encode()).hexdigest()}"
    assert (blob.path, blob.origin.mtime_ns, blob.origin.n_bytes) == (None, None, 6)
    assert text_blob("a", "").origin.n_bytes == 0


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "no such file"),
        ("directory", "a folder, not a file"),
        ("zero_bytes", "empty file (0 bytes)"),
        ("unreadable", "the file cannot be read: Too many|no permission to read the file"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path, kind, reason):
    pattern = reason.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ClipFailed, match=f"^({pattern})"):
        read_blob("a", bad_clips(tmp_path)[kind])


@pytest.mark.timeout(20)
def test_named_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(ClipFailed, match="not a regular file"):
        read_blob("a", tmp_path / "pipe.mp4")


def test_file_that_changes_meanwhile_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    path.write_bytes(b"before")
    real_read = blob_module._read

    def read_and_grow(file, n_bytes):
        result = real_read(file, n_bytes)
        with path.open("ab") as other:
            other.write(b" and after")
        return result

    monkeypatch.setattr(blob_module, "_read", read_and_grow)
    with pytest.raises(ClipFailed, match="changed while it was read"):
        read_blob("a", path)
