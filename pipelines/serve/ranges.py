"""What a client asks of a file: all of it, some bytes, or only whether it changed."""

import re
from collections.abc import Mapping

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII)


class OutsideError(Exception):
    """The range lies behind the end of the file."""


def asked_range(headers: Mapping[str, str], etag: str, n_bytes: int) -> tuple[int, int] | None:
    """Return (start, end) of the bytes asked for; None where all of them are.

    Ranges of another version (``If-Range``), several ranges at once, and what cannot be read as a range are
    answered with the whole file, as RFC 9110 allows.

    Raises
    ------
    OutsideError
        No byte of the range is in the file.
    """
    asked = _RANGE.fullmatch(headers.get("Range", "").strip())
    if asked is None or asked.group() == "bytes=-" or headers.get("If-Range", etag) != etag:
        return None
    first, last = asked.groups()
    if not first:
        start, end = max(0, n_bytes - int(last)), n_bytes
    else:
        start, end = int(first), n_bytes
        if last and int(last) < start:
            return None
        if last:
            end = min(end, int(last) + 1)
    if start >= end:
        raise OutsideError
    return start, end


def is_known(headers: Mapping[str, str], etag: str) -> bool:
    """Tell whether the client has this version already (``If-None-Match``)."""
    known = headers.get("If-None-Match", "")
    tags = {tag.strip().removeprefix("W/") for tag in known.split(",")}
    return etag in tags or known.strip() == "*"
