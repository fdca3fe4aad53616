"""The ffmpeg program, called through ffmpeg-python: for media that PyAV cannot open or decode."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from threading import Timer
from typing import IO, Any, cast

import av
import ffmpeg
from av.container import InputContainer

from extractors.contract import Blob, ClipFailed
from extractors.media.container import MAX_PIXELS
from mer_store.errors import MerStoreError

#: ffmpeg is ended after this many seconds, so that no file can hold up a run.
LIMIT_S = 600.0


class FfmpegMissingError(MerStoreError):
    """No ffmpeg program was found."""


@cache
def find_ffmpeg() -> str:
    """Return the ffmpeg to call: ``$FFMPEG_BINARY``, the one on the PATH, or imageio-ffmpeg's.

    Raises
    ------
    FfmpegMissingError
        There is none.
    """
    if chosen := os.environ.get("FFMPEG_BINARY"):
        if found := shutil.which(chosen):
            return found
        raise FfmpegMissingError(
            f"FFMPEG_BINARY is {chosen!r}: no such program; correct or unset it"
        )
    if found := shutil.which("ffmpeg"):
        return found
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return str(get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise FfmpegMissingError(
            "no ffmpeg program on the PATH: install ffmpeg with your system's package manager, "
            "or imageio-ffmpeg with pip"
        ) from error


@cache
def find_ffprobe() -> str | None:
    """Return ffprobe: beside ffmpeg or on the PATH. imageio-ffmpeg has none; then None."""
    try:
        beside = shutil.which("ffprobe", path=str(Path(find_ffmpeg()).parent))
    except FfmpegMissingError:
        beside = None
    return beside or shutil.which("ffprobe")


@contextmanager
def file_of(blob: Blob) -> Iterator[Path]:
    """Give the blob's bytes as a file: its own where it is too large to hold, else a temporary one."""
    if blob.data is None and blob.path is not None:
        yield blob.path
        return
    with TemporaryDirectory(prefix="mer-store-") as folder:
        path = Path(folder) / "clip"
        path.write_bytes(blob.data or b"")
        yield path


@contextmanager
def decode_stream(path: Path, stream: str, **output: str) -> Iterator[InputContainer | None]:
    """Decode one stream in ffmpeg; give its raw frames, with timestamps, as an open NUT container.

    Parameters
    ----------
    path
        The media file.
    stream
        ffmpeg's name for the stream: ``1``, ``a:0``.
    output
        Options of the output, e.g. ``pix_fmt``.

    Yields
    ------
    InputContainer or None
        None where ffmpeg gave nothing, and, if it says why, `ClipFailed` follows.

    Raises
    ------
    ClipFailed
        ffmpeg ended with an error; the reason is the first one that it wrote.
    """
    target = ffmpeg.output(_input(path)[stream], "pipe:", format="nut", **output)
    quiet = target.global_args("-nostdin", "-hide_banner", "-loglevel", "error")
    with _running(ffmpeg.compile(quiet, cmd=find_ffmpeg())) as raw:
        try:
            container = av.open(raw, mode="r", format="nut")
        except av.FFmpegError:
            yield None
            return
        with container:
            yield container


@contextmanager
def _running(command: list[str]) -> Iterator[IO[bytes]]:
    with TemporaryFile() as messages:  # a pipe would have to be emptied while the output is read
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=messages
        )
        alarm = Timer(LIMIT_S, process.kill)
        alarm.daemon = True
        alarm.start()
        ended = False
        try:
            with cast("IO[bytes]", process.stdout) as output:
                yield output
                ended = not output.read(1)
        finally:
            if not ended:  # the reader left early: nobody will empty the pipe
                process.kill()
            status = process.wait()
            alarm.cancel()
        if ended and status:
            messages.seek(0)
            raise ClipFailed(f"ffmpeg: {_first_message(messages.read(), status)}")


def second_reason(first: Exception, second: ClipFailed) -> ClipFailed:
    """Join what PyAV and ffmpeg say about the same file, once where they say the same."""
    added = str(second).removeprefix("ffmpeg: ")
    return ClipFailed(f"{first}" if added in str(first) else f"{first}; {second}")


def describe(path: Path) -> str:
    """Return what ``ffmpeg -i`` writes about a file."""
    command = [
        find_ffmpeg(),
        "-hide_banner",
        "-nostdin",
        "-protocol_whitelist",
        "file",
        "-i",
        str(path),
    ]
    done = subprocess.run(command, capture_output=True, timeout=LIMIT_S, check=False)
    return done.stderr.decode(errors="replace")


def rotation_of(path: Path) -> int:
    """Return by how many degrees, anticlockwise, the first turned stream's images are to be turned."""
    found = re.search(r"(?i)display ?matrix: rotation of (-?[\d.]+) degrees", describe(path))
    return round(float(found[1])) if found else 0


def _input(path: Path) -> Any:
    # Turning is done by whoever reads the images; only this file may be read, whatever is in it.
    return ffmpeg.input(
        str(path), noautorotate=None, protocol_whitelist="file,pipe", max_pixels=MAX_PIXELS
    )


def _first_message(messages: bytes, status: int) -> str:
    lines = messages.decode(errors="replace").splitlines()
    noise = r"^(\[[^\]]* @ 0x[0-9a-f]+\] )+(Error opening input: )?"
    cleaned = (re.sub(noise, "", line).strip() for line in lines)
    return next((line for line in cleaned if line and "/" not in line), f"exit {status}")
