"""Broken media: one clear line each, never a crash or a hang."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from media_factory import bad_clips, make_audio, make_video, make_wav

from extractors.contract import Blob, ClipEmpty, ClipFailed, ClipProblem, Origin
from extractors.media import decoding
from extractors.media.audio import decode_audio
from extractors.media.blob import read_blob
from extractors.media.images import decode_images


def blob_of(data):
    return Blob("clip", Origin("sha256:" + "0" * 64, len(data), 0), None, data)


def outcome(decode, blob):
    """Return what became of a clip: its length, or the problem."""
    try:
        return len(decode(blob))
    except ClipProblem as problem:
        return problem


def all_images(blob):
    return list(decode_images(blob))


@pytest.mark.parametrize(
    ("kind", "audio", "images"),
    [
        ("truncated", "truncated: ", "truncated: "),
        ("cut_index", "truncated: ", "truncated: "),
        ("text", "not a media file: it is plain text", "not a media file: it is plain text"),
        ("playlist", "not a media file: it is plain text", "not a media file: it is plain text"),
        ("garbage", "not a media file: Invalid data", "not a media file: Invalid data"),
        ("no_audio", "no audio track", 25),
        ("audio_only", 16000, "no video track"),
        ("silence", 16000, "no video track"),
        ("ten_ms", 160, "no video track"),
        ("wrong_extension", 16000, 25),
    ],
)
def test_each_kind(tmp_path, kind, audio, images):
    blob = read_blob("clip", bad_clips(tmp_path)[kind])
    for decode, wanted in ((decode_audio, audio), (all_images, images)):
        came = outcome(decode, blob)
        if isinstance(wanted, int):
            assert came == wanted
        else:
            assert str(came).startswith(wanted)
            assert isinstance(came, ClipEmpty if wanted.startswith("no ") else ClipFailed)
            assert "\n" not in str(came)
            assert str(tmp_path) not in str(came)


def readable(folder):
    return [path for path in bad_clips(folder).values() if path.is_file() and path.stat().st_size]


def n_open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def whole_files(folder):
    return {
        "fast.mp4": make_video(folder / "fast.mp4", seconds=2.0, faststart=True),
        "slow.mp4": make_video(folder / "slow.mp4", seconds=2.0),
        "a.mkv": make_video(folder / "a.mkv", seconds=2.0),
        "a.avi": make_video(folder / "a.avi", seconds=2.0, video_codec="mpeg4", audio_codec="mp3"),
        "a.ts": make_video(folder / "a.ts", seconds=2.0),
        "a.wav": make_wav(folder / "a.wav", seconds=2.0, bits=24),
        "a.flac": make_audio(folder / "a.flac", seconds=2.0, codec="flac"),
        "a.mp3": make_audio(folder / "a.mp3", seconds=2.0, codec="mp3"),
        "a.opus": make_audio(folder / "a.opus", seconds=2.0, codec="libopus", rate_hz=48000),
    }


@pytest.mark.timeout(120)
def test_cut_at_many_points_never_crashes(tmp_path):
    for path in whole_files(tmp_path).values():
        whole = path.read_bytes()
        for n_bytes in np.unique(np.geomspace(1, len(whole) - 1, 12).astype(int)):
            for decode in (decode_audio, all_images):
                came = outcome(decode, blob_of(whole[:n_bytes]))
                assert isinstance(came, ClipProblem) or came >= 1


@pytest.mark.parametrize("name", ["fast.mp4", "slow.mp4", "a.mkv", "a.avi", "a.wav", "a.flac"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.8])
def test_a_truncated_file_is_no_short_clip(tmp_path, name, share):
    """These containers state their length, so that what is missing can be known."""
    whole = whole_files(tmp_path)[name].read_bytes()
    came = outcome(decode_audio, blob_of(whole[: int(len(whole) * share)]))
    assert isinstance(came, ClipFailed)
    assert str(came).startswith("truncated: ")
    if not name.endswith((".wav", ".flac")):
        came = outcome(all_images, blob_of(whole[: int(len(whole) * share)]))
        assert str(came).startswith("truncated: ")


def test_whole_files_are_whole(tmp_path):
    for name, path in whole_files(tmp_path).items():
        assert outcome(decode_audio, read_blob("clip", path)) >= 32000, name


@pytest.mark.timeout(120)
def test_flipped_bytes_never_crash(tmp_path):
    random = np.random.default_rng(0)
    for path in (whole_files(tmp_path)[name] for name in ("fast.mp4", "a.mkv", "a.opus")):
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(12):
            data = whole.copy()
            places = random.integers(0, len(data), 40)
            data[places] = random.integers(0, 256, 40)
            for decode in (decode_audio, all_images):
                came = outcome(decode, blob_of(data.tobytes()))
                assert isinstance(came, ClipProblem) or came >= 1


def test_playlist_reads_no_other_file(tmp_path):
    """A playlist in disguise must not make the decoder open what it names."""
    secret = make_video(tmp_path / "secret.mp4", seconds=1.0)
    concat = f"ffconcat version 1.0\nfile '{secret}'\n"
    for text in (concat, f"#EXTM3U\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n"):
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):
            came = outcome(decode_audio, blob_of(text.encode(encoding)))
            assert isinstance(came, ClipFailed)


def test_decoding_is_given_up_in_the_end(tmp_path, monkeypatch):
    blob = read_blob("clip", make_video(tmp_path / "a.mp4", seconds=1.0))
    monkeypatch.setattr(decoding, "LIMIT_S", -1.0)
    with pytest.raises(ClipFailed, match="given up"):
        decode_audio(blob)


def test_images_too_large_are_refused_before_memory_is_taken(tmp_path, monkeypatch):
    blob = read_blob("clip", make_video(tmp_path / "a.mp4", seconds=0.2, size=(640, 480)))
    monkeypatch.setattr(decoding, "MAX_PIXELS", 1000)
    assert isinstance(outcome(all_images, blob), ClipProblem)


def test_titles_in_another_encoding_do_no_harm(tmp_path):
    """Chinese recorders write GBK."""
    path = make_video(tmp_path / "a.mkv", seconds=0.4, title="TITLE-PLACEHOLDER")
    data = path.read_bytes().replace(b"TITLE-PLACEHOLDER", "中文标题中文标题".encode("gbk") + b"x")
    assert outcome(decode_audio, blob_of(data)) > 0
    assert outcome(all_images, blob_of(data)) == 10


def test_many_threads_at_once(tmp_path):
    good = read_blob("good", make_video(tmp_path / "a.mp4", seconds=1.0))
    blobs = [good, *(read_blob("bad", path) for path in readable(tmp_path))]
    alone = [str(outcome(decode_audio, blob)) for blob in blobs]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda blob: str(outcome(decode_audio, blob)), blobs * 4))
    assert together == alone * 4


def test_nothing_is_left_open(tmp_path):
    clips = readable(tmp_path)
    for path in clips:
        outcome(decode_audio, read_blob("clip", path))
    before = n_open_files()
    for path in clips * 3:
        blob = read_blob("clip", path)
        for decode in (decode_audio, all_images):
            outcome(decode, blob)
        with suppress(ClipProblem, StopIteration):
            next(decode_images(blob))
    assert n_open_files() <= before
