"""Cut windows out of media and pair the images of one file with the sound of another, by ffmpeg-python."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ffmpeg

from extractors.media.ffmpeg import find_ffmpeg
from mer_store.errors import MerStoreError

#: One thread and no dates or version strings: the same clip gives the same bytes each time.
H264: dict[str, Any] = {
    "vcodec": "libx264",
    "preset": "veryfast",
    "pix_fmt": "yuv420p",
    "threads": 1,
    "map_metadata": -1,
    "fflags": "+bitexact",
    "flags:v": "+bitexact",
}
_AAC: dict[str, Any] = {"acodec": "aac", "ar": 44100, "ac": 1, "flags:a": "+bitexact"}
_WIDTH = 320
_LIMIT_S = 120


@dataclass(frozen=True)
class Window:
    """Some seconds of a media file."""

    name: str
    start_s: float
    seconds: float


def cut(media: dict[str, Path], target: Path, images: Window | None, sound: Window | None) -> None:
    """Write a clip with the images of one window and the sound of another; None leaves the track out."""
    streams = []
    if images:
        streams.append(_open(media, images).video.filter("scale", _WIDTH, -2))
    if sound:
        streams.append(_open(media, sound).audio)
    options = (H264 if images else {"map_metadata": -1, "fflags": "+bitexact"}) | (
        _AAC if sound else {}
    )
    if target.suffix == ".wav":
        options = {"acodec": "pcm_s16le", "fflags": "+bitexact", "map_metadata": -1}
    run_ffmpeg(ffmpeg.output(*streams, str(target), shortest=None, **options), target)


def run_ffmpeg(output: Any, target: Path) -> None:
    """Run a graph built by ffmpeg-python.

    Raises
    ------
    MerStoreError
        ffmpeg fails; with its last line.
    """
    quiet = output.global_args("-nostdin", "-hide_banner", "-loglevel", "error", "-y")
    command = ffmpeg.compile(quiet, cmd=find_ffmpeg())
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
        raise MerStoreError(f"{target}: ffmpeg cannot write it: {said[-1]}")


def _open(media: dict[str, Path], window: Window) -> Any:
    return ffmpeg.input(str(media[window.name]), ss=window.start_s, t=window.seconds)
