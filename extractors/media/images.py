"""Decode a clip's images, one after the other, with their times."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from extractors.contract import Blob, ClipEmpty, ClipFailed
from extractors.media.container import (
    Stated,
    UndecodableError,
    open_container,
    pick_video,
    read_stated,
    start_s,
)
from extractors.media.decoding import Decoding
from extractors.media.ffmpeg import (
    FfmpegMissingError,
    decode_stream,
    file_of,
    rotation_of,
    second_reason,
)

#: Names all that decides which images come and what is in them, for the spec's preprocessing:
#:
#: - the first video stream flagged default, else the first; cover art is none;
#: - every image once, in presentation order, at its own timestamp counted from the first image;
#: - RGB by libswscale, bicubic where chroma is scaled, turned as the display matrix says;
#: - at r images a second: the first image of every interval [k/r, (k+1)/r) that has one, with
#:   timestamps read 1 ms late, since some containers round them to it.
IMAGE_RULE = "own-timestamps, first-of-interval, bicubic-rgb, display-rotation, v1"

_ROUNDING_S = Fraction(1, 1000)
_MICROSECONDS = "1/1000000"


@dataclass(frozen=True, slots=True)
class Image:
    """One picture of a video."""

    time_s: float
    """Since the first image."""
    rgb: NDArray[np.uint8]
    """[H, W, 3], upright."""


def decode_images(
    blob: Blob, images_per_second: float | None = None, *, program: bool | None = None
) -> Iterator[Image]:
    """Decode the clip's video stream, holding one image at a time.

    Parameters
    ----------
    blob
        The clip's bytes. A still image (JPEG, PNG) is a video of one image.
    images_per_second
        How many to take, as `IMAGE_RULE` says; None takes every one.
    program
        Decode by PyAV in this process (False), by the ffmpeg program (True), or by the program only where
        PyAV cannot (None). The images are the same, bit for bit where samples have 8 bits; deeper
        ones may differ at edges of colour, since the program takes chroma as centred.

    Yields
    ------
    Image
        At least one.

    Raises
    ------
    ClipEmpty
        There is no video track, or no image in it.
    ClipFailed
        No media file, or damaged. Truncation shows at the end only: images may have come before.
    """
    if images_per_second is not None and not images_per_second > 0:
        raise ValueError(f"images_per_second: expected more than 0, got {images_per_second}")
    sampler = _Sampler(images_per_second)
    if program:
        yield from _by_program(blob, sampler)
        return
    try:
        yield from _by_pyav(blob, sampler)
    except UndecodableError as error:  # before the first image, or never
        if program is not None:
            raise ClipFailed(str(error)) from error
        yield from _second_try(blob, sampler, error)


class _Sampler:
    """Decides image by image which ones are taken."""

    def __init__(self, images_per_second: float | None):
        self.rate = None if images_per_second is None else Fraction(str(images_per_second))
        self.last_interval = -1
        self.n_seen = 0

    def takes(self, time_s: Fraction) -> bool:
        self.n_seen += 1
        if self.rate is None:
            return True
        interval = int((time_s + _ROUNDING_S) * self.rate)
        taken = interval > self.last_interval
        self.last_interval = max(interval, self.last_interval)
        return taken


def _by_pyav(blob: Blob, sampler: _Sampler) -> Iterator[Image]:
    with open_container(blob) as container:
        stream = pick_video(container)
        stated = read_stated(container, stream)
        decoding = Decoding(container, stream, start_s(container))
        yield from _images(decoding, sampler, stated.fixed_rate)
        if not sampler.n_seen and decoding.n_damaged:
            raise UndecodableError("none of the images can be decoded")
        decoding.require_whole(stated)
        if not sampler.n_seen:
            raise ClipEmpty("the video track holds no images")


def _second_try(blob: Blob, sampler: _Sampler, first: UndecodableError) -> Iterator[Image]:
    try:
        yield from _by_program(blob, sampler)
    except FfmpegMissingError:
        raise ClipFailed(str(first)) from first
    except ClipFailed as error:
        raise second_reason(first, error) from error
    if not sampler.n_seen:
        raise ClipFailed(str(first)) from first


def _by_program(blob: Blob, sampler: _Sampler) -> Iterator[Image]:
    """Decode by ffmpeg to raw RGB with timestamps; all the rest is shared with PyAV's way."""
    stated = _read_stated(blob)
    selector = str(stated.index) if stated else "v:0"
    raw = {"vcodec": "rawvideo", "pix_fmt": "rgb24", "enc_time_base": _MICROSECONDS}
    with file_of(blob) as path, decode_stream(path, selector, **raw) as container:
        if container is None:
            return
        decoding = Decoding(container, container.streams.video[0])
        fixed_rate = stated.fixed_rate if stated else None
        yield from _images(decoding, sampler, fixed_rate, rotation_of(path))
    if stated and stated.of_stream:
        decoding.require_whole(stated)


def _read_stated(blob: Blob) -> Stated | None:
    try:
        with open_container(blob) as container:
            return read_stated(container, pick_video(container))
    except UndecodableError:
        return None


def _images(
    decoding: Decoding, sampler: _Sampler, fixed_rate: Fraction | None, turn: int | None = None
) -> Iterator[Image]:
    first_s: Fraction | None = None
    time_s = Fraction(0)
    for index, frame in enumerate(decoding.frames()):
        if not isinstance(frame, VideoFrame):
            continue
        if fixed_rate:
            time_s = index / fixed_rate
        elif frame.pts is not None and frame.time_base is not None:
            on_clock_s = frame.pts * frame.time_base
            first_s = on_clock_s if first_s is None else first_s
            time_s = max(time_s, on_clock_s - first_s)
        if sampler.takes(time_s):
            yield Image(float(time_s), _upright(frame, frame.rotation if turn is None else turn))


def _upright(frame: VideoFrame, turn: int) -> NDArray[np.uint8]:
    # Bicubic is what the ffmpeg program does; PyAV's own default differs at odd sizes and 10 bits.
    rgb = frame.reformat(format="rgb24", interpolation=Interpolation.BICUBIC).to_ndarray()
    return np.ascontiguousarray(np.rot90(rgb, round(turn / 90)), dtype=np.uint8)
