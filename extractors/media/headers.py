"""What a file's first bytes say, read without a decoder: text or not, and how many bytes there should be."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from extractors.contract import Blob, ClipFailed

_MP4_BOXES = frozenset(
    b"ftyp styp moov moof mdat free skip wide pnot udta meta uuid sidx mfra emsg prft".split()
)
_MP4_CONTENT = frozenset({b"moov", b"moof", b"mdat"})
_RIFF_UNKNOWN = 0x7FFF0000  # sizes above this are written by programs that stream: "not known yet"
_RIFF_SLACK = 64  # some programs count the header twice, or a padding byte that they do not write


@contextmanager
def open_bytes(blob: Blob) -> Iterator[IO[bytes]]:
    """Give a blob's bytes as an open file. Raises `ClipFailed` where a large one is gone or changed."""
    if blob.data is not None or blob.path is None:
        yield io.BytesIO(blob.data or b"")
        return
    try:
        file = blob.path.open("rb")
    except OSError as error:
        raise ClipFailed(f"the file cannot be read again: {error.strerror}") from error
    with file:
        facts = os.fstat(file.fileno())
        if (facts.st_size, facts.st_mtime_ns) != (blob.origin.n_bytes, blob.origin.mtime_ns):
            raise ClipFailed("the file changed after it was hashed")
        yield file


def looks_like_text(blob: Blob) -> bool:
    """Tell whether the file begins with text. Playlists do: they would make a decoder read other files."""
    with open_bytes(blob) as file:
        head = file.read(512)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):  # UTF-16's mark
        return True
    try:
        head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # else a character cut by the end of `head`
            return False
    return not any(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head)


def stated_bytes(blob: Blob) -> int:
    """Return how many bytes the file has at least by its own index, 0 where that is not known."""
    with open_bytes(blob) as file:
        riff = _riff_bytes(file)
        return riff or _mp4_bytes(file)


def _mp4_bytes(file: IO[bytes]) -> int:
    """Return where the last box with content ends in an MP4 or MOV, 0 in anything else."""
    offset = end = 0
    while True:
        file.seek(offset)
        head = file.read(16)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        if kind not in _MP4_BOXES or size < 8:  # 0: up to the end of the file, wherever that is
            return end
        offset += size
        if kind in _MP4_CONTENT:
            end = offset


def _riff_bytes(file: IO[bytes]) -> int:
    """Return how many bytes a RIFF file (WAV, AVI) has by its own header, 0 where it does not say."""
    head = file.read(8)
    stated = int.from_bytes(head[4:8], "little")
    return stated + 8 - _RIFF_SLACK if head.startswith(b"RIFF") and stated < _RIFF_UNKNOWN else 0
