"""What is in a media file: its streams, their lengths, codecs and rotation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import av
import ffmpeg
from av.stream import Disposition

from extractors.contract import Blob, ClipFailed
from extractors.media.container import UndecodableError, open_container
from extractors.media.ffmpeg import file_of, find_ffprobe


@dataclass(frozen=True)
class StreamInfo:
    """One audio or video stream."""

    index: int
    kind: str
    """``audio`` or ``video``."""
    codec: str
    duration_s: float | None
    """None where the container states none for the stream."""
    rate_hz: int | None = None
    n_channels: int | None = None
    size: tuple[int, int] | None = None
    """(width, height) as stored, before turning."""
    images_per_second: float | None = None
    """On average."""
    rotation: int = 0
    """Degrees anticlockwise for display."""
    cover_art: bool = False


@dataclass(frozen=True)
class MediaInfo:
    """A container and its audio and video streams."""

    container: str
    """FFmpeg's name of the format."""
    duration_s: float | None
    streams: tuple[StreamInfo, ...]


def probe(blob: Blob) -> MediaInfo:
    """Describe a file: by ffprobe through ffmpeg-python where there is one, else by PyAV.

    Raises
    ------
    ClipFailed
        It is no media file.
    """
    try:
        with open_container(blob) as container:
            if find_ffprobe() is None:
                return _by_pyav(container)
    except UndecodableError as error:
        if find_ffprobe() is None:
            raise ClipFailed(str(error)) from error
    return _by_ffprobe(blob)


def _by_pyav(container: av.container.InputContainer) -> MediaInfo:
    video = [_video_info(container, stream) for stream in container.streams.video]
    audio = [_audio_info(stream) for stream in container.streams.audio]
    length = container.duration
    return MediaInfo(
        container.format.name,
        None if length is None else length / av.time_base,
        tuple(sorted([*video, *audio], key=lambda stream: stream.index)),
    )


def _audio_info(stream: av.AudioStream) -> StreamInfo:
    return StreamInfo(
        stream.index, "audio", stream.codec_context.codec.canonical_name, _length_s(stream),
        rate_hz=stream.rate, n_channels=stream.channels,
    )  # fmt: skip


def _video_info(container: av.container.InputContainer, stream: av.VideoStream) -> StreamInfo:
    rate = stream.average_rate
    return StreamInfo(
        stream.index, "video", stream.codec_context.codec.canonical_name, _length_s(stream),
        size=(stream.width, stream.height), images_per_second=float(rate) if rate else None,
        rotation=_first_rotation(container, stream),
        cover_art=bool(stream.disposition & Disposition.attached_pic),
    )  # fmt: skip


def _length_s(stream: av.AudioStream | av.VideoStream) -> float | None:
    if stream.duration is None or stream.time_base is None:
        return None
    return float(stream.duration * stream.time_base)


def _first_rotation(container: av.container.InputContainer, stream: av.VideoStream) -> int:
    """Return the first image's rotation: PyAV gives the display matrix with the images only."""
    try:
        container.seek(0)
        return next((frame.rotation for frame in container.decode(stream)), 0)
    except (av.FFmpegError, OSError):
        return 0


def _by_ffprobe(blob: Blob) -> MediaInfo:
    with file_of(blob) as path:
        try:
            facts = ffmpeg.probe(str(path), cmd=find_ffprobe(), protocol_whitelist="file")
        except ffmpeg.Error as error:
            lines = (error.stderr or b"").decode(errors="replace").splitlines() or [
                "no reason given"
            ]
            reason = lines[-1].removeprefix(f"{path}: ")
            raise ClipFailed(f"not a media file: {reason}") from error
    return read_ffprobe(facts)


def read_ffprobe(facts: Mapping[str, Any]) -> MediaInfo:
    """Turn ffprobe's JSON into a `MediaInfo`."""
    streams = [
        _stream_info(s) for s in facts["streams"] if s.get("codec_type") in {"audio", "video"}
    ]
    return MediaInfo(
        facts["format"]["format_name"], _number(facts["format"].get("duration")), tuple(streams)
    )


def _stream_info(facts: Mapping[str, Any]) -> StreamInfo:
    turns = [data["rotation"] for data in facts.get("side_data_list", ()) if "rotation" in data]
    images, _, seconds = str(facts.get("avg_frame_rate", "0/0")).partition("/")
    rate = int(images) / int(seconds or 1) if int(images) and int(seconds or 1) else None
    is_video = facts["codec_type"] == "video"
    return StreamInfo(
        facts["index"], facts["codec_type"], facts.get("codec_name", "unknown"),
        _number(facts.get("duration")),
        rate_hz=None if is_video else int(facts["sample_rate"]),
        n_channels=None if is_video else facts["channels"],
        size=(facts["width"], facts["height"]) if is_video else None,
        images_per_second=rate if is_video else None,
        rotation=int(turns[0]) if turns else 0,
        cover_art=bool(facts.get("disposition", {}).get("attached_pic")),
    )  # fmt: skip


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)
