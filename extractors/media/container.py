"""An open media file: which of its streams is taken and what its header states about it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

import av
from av.container import InputContainer
from av.stream import Disposition

from extractors.contract import Blob, ClipEmpty, ClipFailed
from extractors.media.headers import looks_like_text, open_bytes, stated_bytes

# Containers that state how long their content is, apart from the bytes that happen to be there. The
# others estimate it from the file's size or its last timestamp, which a truncated file has as well.
_STATES_DURATION = frozenset(
    {"mov", "mp4", "matroska", "webm", "flac", "flv", "asf", "caf", "aiff"}
)
#: Images above 2**26 pixels (8192 x 8192) are refused by the decoder before memory is taken for them.
MAX_PIXELS = 2**26
# No protocol is allowed, so that a file cannot make the decoder open another one.
_NO_OTHER_FILES = {"protocol_whitelist": "none"}

AnyStream = TypeVar("AnyStream", av.AudioStream, av.VideoStream)


class UndecodableError(Exception):
    """PyAV cannot open or decode this; the ffmpeg program may. The text says what is missing."""


@dataclass(frozen=True)
class Stated:
    """What a container says about one of its streams, before anything is decoded."""

    index: int
    """Number of the stream among all."""
    exact_s: float | None
    """Duration by the stream's edit list (MP4, MOV), which excludes the encoder's padding."""
    end_s: float | None
    """Where the content ends, counted from the container's start; None where it is only an estimate."""
    of_stream: bool
    """False where `end_s` is the end of the longest stream."""
    fixed_rate: Fraction | None
    """Images a second where the container (AVI) holds no timestamps but this."""


@contextmanager
def open_container(blob: Blob) -> Iterator[InputContainer]:
    """Open a blob's bytes; what they are is found from them, never from the file's name.

    Raises
    ------
    ClipFailed
        The bytes are plain text, or the file's own index says that some are missing.
    UndecodableError
        PyAV knows no such format.
    """
    if looks_like_text(blob):
        raise ClipFailed("not a media file: it is plain text")
    n_stated = stated_bytes(blob)
    if n_stated > blob.origin.n_bytes:
        raise ClipFailed(f"truncated: {blob.origin.n_bytes} of at least {n_stated} bytes are there")
    with open_bytes(blob) as file:
        try:
            container = av.open(
                file, mode="r", options=dict(_NO_OTHER_FILES), metadata_errors="replace"
            )
        except (av.FFmpegError, ValueError, OSError) as error:
            words = getattr(error, "strerror", None) or error
            raise UndecodableError(f"not a media file: {words}") from error
        with container:
            if not container.streams:
                raise UndecodableError("not a media file: there are no streams in it")
            yield container


def pick_audio(container: InputContainer) -> av.AudioStream:
    """Return the first audio stream flagged default, else the first. Raises `ClipEmpty` without one."""
    if not container.streams.audio:
        raise ClipEmpty("no audio track")
    return _default_or_first(container.streams.audio)


def pick_video(container: InputContainer) -> av.VideoStream:
    """Return the first video stream flagged default, else the first. Raises `ClipEmpty` without one.

    Cover art of a music file is no video.
    """
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise ClipEmpty("no video track")
    return _default_or_first(streams)


def read_stated(container: InputContainer, stream: av.AudioStream | av.VideoStream) -> Stated:
    """Read what the header says about a stream's length."""
    formats = set(container.format.name.split(","))
    duration_s = None
    if stream.duration is not None and stream.time_base is not None:
        duration_s = float(stream.duration * stream.time_base)
    end_s = None
    if formats & _STATES_DURATION:
        if duration_s is not None and stream.time_base is not None:
            end_s = (
                duration_s + float((stream.start_time or 0) * stream.time_base) - start_s(container)
            )
        elif container.duration is not None:
            end_s = container.duration / av.time_base
    rate = stream.average_rate if "avi" in formats and isinstance(stream, av.VideoStream) else None
    exact_s = duration_s if "mov" in formats else None
    return Stated(stream.index, exact_s, end_s, duration_s is not None, rate)


def start_s(container: InputContainer) -> float:
    """Return the container's first timestamp."""
    return (container.start_time or 0) / av.time_base


def _default_or_first(streams: Sequence[AnyStream]) -> AnyStream:
    return next((s for s in streams if s.disposition & Disposition.default), streams[0])
