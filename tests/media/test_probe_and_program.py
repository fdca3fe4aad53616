import json
import os
import stat

import pytest
from media_factory import make_audio, make_video, make_wav

from extractors.contract import Blob, ClipFailed, Origin
from extractors.media import audio, ffmpeg
from extractors.media.audio import decode_audio
from extractors.media.blob import read_blob
from extractors.media.container import UndecodableError
from extractors.media.ffmpeg import FfmpegMissingError, find_ffmpeg, find_ffprobe
from extractors.media.probe import probe, read_ffprobe


@pytest.fixture
def fresh_search():
    """Forget which programs were found, before and after."""
    find_ffmpeg.cache_clear()
    find_ffprobe.cache_clear()
    yield
    find_ffmpeg.cache_clear()
    find_ffprobe.cache_clear()


@pytest.fixture
def no_programs(fresh_search, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("FFMPEG_BINARY", raising=False)
    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", _no_binary)


def _no_binary():
    raise RuntimeError("No ffmpeg exe could be found")


def test_probe_says_what_is_in_a_video(tmp_path):
    path = make_video(
        tmp_path / "a.mp4", seconds=1.0, fps=20, size=(64, 48), rotation=90, channels=2
    )
    info = probe(read_blob("a", path))
    assert "mp4" in info.container
    assert info.duration_s == pytest.approx(1.0, abs=0.05)
    video, sound = info.streams
    assert (video.kind, video.codec, video.size, video.rotation) == ("video", "h264", (64, 48), 90)
    assert video.images_per_second == pytest.approx(20, abs=0.5)
    assert (sound.kind, sound.codec, sound.rate_hz, sound.n_channels) == ("audio", "aac", 44100, 2)
    assert sound.duration_s == pytest.approx(1.0, abs=0.05)


def test_probe_of_sound_and_of_no_media(tmp_path):
    (stream,) = probe(read_blob("a", make_audio(tmp_path / "a.mp3", codec="mp3"))).streams
    assert stream.codec == "mp3"
    (tmp_path / "b.mp4").write_bytes(bytes(range(1, 256)) * 40)
    with pytest.raises(ClipFailed, match="not a media file"):
        probe(read_blob("b", tmp_path / "b.mp4"))


def test_ffprobe_is_used_where_there_is_one(tmp_path, fresh_search, monkeypatch):
    said = {
        "format": {"format_name": "mov,mp4", "duration": "2.5"},
        "streams": [
            {"index": 0, "codec_type": "video", "codec_name": "h264", "width": 64, "height": 48,
             "avg_frame_rate": "30000/1001", "duration": "2.5", "disposition": {"attached_pic": 0},
             "side_data_list": [{"side_data_type": "Display Matrix", "rotation": -90}]},
            {"index": 1, "codec_type": "audio", "codec_name": "aac", "sample_rate": "44100",
             "channels": 2, "avg_frame_rate": "0/0"},
            {"index": 2, "codec_type": "data"},
        ],
    }  # fmt: skip
    (tmp_path / "ffmpeg").symlink_to(find_ffmpeg())
    find_ffmpeg.cache_clear()
    monkeypatch.delenv("FFMPEG_BINARY", raising=False)
    program = tmp_path / "ffprobe"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(said)}\nEND\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    info = probe(read_blob("a", make_video(tmp_path / "a.mp4", seconds=0.2)))
    assert info == read_ffprobe(said)
    assert info.duration_s == 2.5
    assert [s.kind for s in info.streams] == ["video", "audio"]
    assert info.streams[0].rotation == -90
    assert info.streams[0].images_per_second == pytest.approx(29.97, abs=0.01)
    assert info.streams[1].duration_s is None


def test_missing_program_is_named_with_what_to_do(no_programs):
    with pytest.raises(
        FfmpegMissingError, match=r"install ffmpeg with .* or imageio-ffmpeg with pip"
    ):
        find_ffmpeg()


def test_chosen_program_must_exist(fresh_search, monkeypatch):
    monkeypatch.setenv("FFMPEG_BINARY", "/nowhere/ffmpeg")
    with pytest.raises(FfmpegMissingError, match="FFMPEG_BINARY is '/nowhere/ffmpeg'"):
        find_ffmpeg()


def test_pyav_alone_is_enough(tmp_path, no_programs):
    assert len(decode_audio(read_blob("a", make_video(tmp_path / "a.mp4")))) == 16000
    data = bytes(range(1, 256)) * 40
    with pytest.raises(ClipFailed, match=r"^not a media file: "):
        decode_audio(Blob("b", Origin("sha256:0", len(data), 0), None, data))


def test_program_takes_over_what_pyav_cannot(tmp_path, monkeypatch):
    blob = read_blob("a", make_wav(tmp_path / "a.wav", seconds=0.5))
    wanted = decode_audio(blob)

    def cannot(blob):
        raise UndecodableError("no decoder for stream 0")

    monkeypatch.setattr(audio, "_by_pyav", cannot)
    assert (decode_audio(blob) == wanted).all()
    with pytest.raises(ClipFailed, match="no decoder for stream 0"):
        decode_audio(blob, program=False)


@pytest.mark.timeout(30)
def test_program_that_hangs_is_ended(tmp_path, fresh_search, monkeypatch):
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setenv("FFMPEG_BINARY", str(program))
    monkeypatch.setattr(ffmpeg, "LIMIT_S", 0.3)
    with pytest.raises(ClipFailed):
        decode_audio(read_blob("a", make_wav(tmp_path / "a.wav")), program=True)
