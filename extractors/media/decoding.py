"""Decode one stream of an open container to its end, and judge whether all of it was there."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import av
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame

from extractors.contract import ClipFailed
from extractors.media.container import MAX_PIXELS, Stated, UndecodableError

#: A stream may end this much before its stated end and still count as whole.
TOLERANCE_S = 0.25
#: Decoding one clip may take this long, so that no file can hold up a run.
LIMIT_S = 600.0


@dataclass
class Decoding:
    """The frames of one stream, and what was seen on the way."""

    container: InputContainer
    stream: av.AudioStream | av.VideoStream
    start_s: float = 0.0
    """The container's first timestamp; `end_s` and `other_end_s` are counted from it."""
    n_damaged: int = 0
    """Packets that could not be decoded."""
    end_s: float = 0.0
    """Where the last decoded frame ends."""
    other_end_s: float = 0.0
    """Where the last packet of any other stream ends."""
    _spent_s: float = field(default=0.0, repr=False)

    def frames(self) -> Iterator[AudioFrame | VideoFrame]:
        """Decode in presentation order. A packet that cannot be decoded is passed over and counted.

        Raises
        ------
        ClipFailed
            Decoding took longer than `LIMIT_S`, without what the caller did in between.
        UndecodableError
            There is no decoder for the stream.
        """
        self._prepare()
        started = time.monotonic()
        for packet in self._packets():
            for frame in self._decode(packet):
                self.end_s = max(self.end_s, _end_s(frame) - self.start_s)
                self._spent_s += time.monotonic() - started
                yield frame
                started = time.monotonic()
            if self._spent_s + time.monotonic() - started > LIMIT_S:
                raise ClipFailed(f"decoding was given up after {LIMIT_S:.0f} s")

    def require_whole(self, stated: Stated) -> None:
        """Compare what was decoded with what the file states.

        Raises
        ------
        ClipFailed
            More than `TOLERANCE_S` is missing at the end.
        """
        seen_s, expected_s = self.end_s, stated.end_s
        if not stated.of_stream:
            seen_s = max(seen_s, self.other_end_s)
        if expected_s is not None and seen_s < expected_s - TOLERANCE_S:
            raise ClipFailed(f"truncated: {seen_s:.1f} s of {expected_s:.1f} s decoded")

    def _prepare(self) -> None:
        context = self.stream.codec_context
        if context is None:
            raise UndecodableError(f"no decoder for stream {self.stream.index}")
        context.thread_count = 1  # many clips are decoded at once, one thread each
        context.options = {"max_pixels": str(MAX_PIXELS)}

    def _packets(self) -> "Iterator[Packet[Stream]]":
        try:
            for packet in self.container.demux(
                *self.container.streams.audio, *self.container.streams.video
            ):
                if packet.stream is self.stream:
                    yield packet
                elif packet.pts is not None and packet.time_base is not None:
                    end_s = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                    self.other_end_s = max(self.other_end_s, end_s - self.start_s)
        except (av.FFmpegError, OSError):
            self.n_damaged += 1  # the container itself breaks off here

    def _decode(self, packet: "Packet[Stream]") -> list[AudioFrame | VideoFrame]:
        try:
            return [f for f in packet.decode() if isinstance(f, (AudioFrame, VideoFrame))]
        except av.DecoderNotFoundError as error:
            raise UndecodableError(f"no decoder for stream {self.stream.index}") from error
        except (av.FFmpegError, OSError):
            self.n_damaged += 1
            return []


def _end_s(frame: AudioFrame | VideoFrame) -> float:
    if frame.pts is None or frame.time_base is None:
        return 0.0
    if isinstance(frame, AudioFrame):
        length_s = max(
            float((frame.duration or 0) * frame.time_base), frame.samples / frame.sample_rate
        )
    else:
        length_s = float((frame.duration or 0) * frame.time_base)
    return float(frame.pts * frame.time_base) + length_s
