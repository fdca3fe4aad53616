"""Decode a clip's speech to mono samples."""

from dataclasses import dataclass

import av
import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

from extractors.contract import Blob, ClipEmpty, ClipFailed
from extractors.media.container import (
    Stated,
    UndecodableError,
    open_container,
    pick_audio,
    read_stated,
    start_s,
)
from extractors.media.decoding import Decoding
from extractors.media.ffmpeg import FfmpegMissingError, decode_stream, file_of, second_reason

#: Names all that decides the samples, for the spec's preprocessing:
#:
#: - the first audio stream flagged default, else the first;
#: - from the first sample that the decoder gives (encoder delay dropped where the file states it),
#:   gaps closed;
#: - up to the duration that an MP4/MOV states for the stream (its encoder's padding goes; decoders
#:   differ in whether they drop it), in other containers up to the last sample decoded;
#: - the plain mean of the channels, then libswresample's default filter, N = round(duration_s * rate_hz);
#: - clipped to [-1, 1].
AUDIO_RULE = "stream-duration, channel-mean, swresample, v1"

#: Longer recordings are no clips; they would also not fit into memory.
MAX_DURATION_S = 4 * 3600.0

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class _Track:
    """A decoded stream at its own rate."""

    samples: Samples
    rate_hz: int


def decode_audio(blob: Blob, rate_hz: int = 16000, *, program: bool | None = None) -> Samples:
    """Decode the clip's audio stream.

    Parameters
    ----------
    blob
        The clip's bytes.
    rate_hz
        Rate wanted.
    program
        Decode by PyAV in this process (False), by the ffmpeg program (True), or by the program only where
        PyAV cannot (None). The samples are the same.

    Returns
    -------
    array
        float32 [N], mono, in [-1, 1], at `rate_hz`, as `AUDIO_RULE` says. N >= 1.

    Raises
    ------
    ClipEmpty
        There is no audio track, or nothing in it.
    ClipFailed
        No media file, truncated, or damaged.
    """
    try:
        track = _by_program(blob) if program else _by_pyav(blob)
    except UndecodableError as error:
        if program is not None:
            raise ClipFailed(str(error)) from error
        track = _second_try(blob, error)
    if not len(track.samples):
        raise ClipEmpty("the audio track holds no samples")
    if not np.isfinite(track.samples).all():
        raise ClipFailed("the audio holds values that are no numbers (NaN or infinite)")
    return np.clip(_resample(track, rate_hz), -1.0, 1.0)


def _by_pyav(blob: Blob) -> _Track:
    with open_container(blob) as container:
        stream = pick_audio(container)
        stated = read_stated(container, stream)
        decoding = Decoding(container, stream, start_s(container))
        track = _collect(decoding)
        if not len(track.samples) and decoding.n_damaged:
            raise UndecodableError("none of the audio can be decoded")
        decoding.require_whole(stated)
        return _trim(track, stated.exact_s)


def _second_try(blob: Blob, first: UndecodableError) -> _Track:
    try:
        track = _by_program(blob)
    except FfmpegMissingError:
        raise ClipFailed(str(first)) from first
    except ClipFailed as error:
        raise second_reason(first, error) from error
    if not len(track.samples):
        raise ClipFailed(str(first)) from first
    return track


def _by_program(blob: Blob) -> _Track:
    """Decode by ffmpeg to PCM at the stream's own rate; all the rest is shared with PyAV's way."""
    stated = _read_stated(blob)
    selector = str(stated.index) if stated else "a:0"
    with (
        file_of(blob) as path,
        decode_stream(path, selector, acodec="pcm_f32le") as container,
    ):
        if container is None:
            return _Track(np.zeros(0, np.float32), 0)
        decoding = Decoding(container, container.streams.audio[0])
        track = _collect(decoding)
    if stated is None:
        return track
    if stated.of_stream:
        decoding.require_whole(stated)
    return _trim(track, stated.exact_s)


def _read_stated(blob: Blob) -> Stated | None:
    try:
        with open_container(blob) as container:
            return read_stated(container, pick_audio(container))
    except UndecodableError:
        return None


def _trim(track: _Track, stated_s: float | None) -> _Track:
    if stated_s is None:
        return track
    return _Track(track.samples[: round(stated_s * track.rate_hz)], track.rate_hz)


def _collect(decoding: Decoding) -> _Track:
    pieces: list[Samples] = []
    rate_hz, n_samples = 0, 0
    for frame in decoding.frames():
        if not isinstance(frame, AudioFrame):
            continue
        rate_hz = rate_hz or frame.sample_rate
        if frame.sample_rate != rate_hz:
            raise ClipFailed(f"the audio changes from {rate_hz} to {frame.sample_rate} Hz midway")
        pieces.append(_mono(frame))
        n_samples += frame.samples
        if n_samples > MAX_DURATION_S * rate_hz:
            raise ClipFailed(
                f"longer than {MAX_DURATION_S / 3600:.0f} h: cut the recording into clips"
            )
    samples = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    return _Track(samples, rate_hz)


def _mono(frame: AudioFrame) -> Samples:
    values = frame.to_ndarray()  # [C, N], or [1, N * C] where channels are interleaved
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    floats = values.astype(np.float32)
    if values.dtype == np.uint8:
        floats -= 128
        floats /= 128
    elif values.dtype.kind == "i":
        floats /= 2.0 ** (8 * values.dtype.itemsize - 1)
    mean: Samples = floats[0] if len(floats) == 1 else floats.mean(axis=0, dtype=np.float32)
    return mean


def _resample(track: _Track, rate_hz: int) -> Samples:
    if track.rate_hz == rate_hz:
        return track.samples
    frame = AudioFrame.from_ndarray(track.samples[None], format="fltp", layout="mono")
    frame.sample_rate = track.rate_hz
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate_hz)
    pieces = [
        piece.to_ndarray()[0] for piece in (*resampler.resample(frame), *resampler.resample(None))
    ]
    n_samples = max(1, round(len(track.samples) * rate_hz / track.rate_hz))
    resampled = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    # The filter's tail may end a sample early or late; the length is the rule's.
    return np.pad(resampled[:n_samples], (0, max(0, n_samples - len(resampled))))
