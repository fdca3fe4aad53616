"""A file that appears whole or not at all, and takes the place of no other."""

import errno
import os
from enum import Enum
from pathlib import Path

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)


class Put(Enum):
    """What became of a file that was to be written."""

    WRITTEN = "written"
    KEPT = "there already"
    DIFFERENT = "different"
    """Another file has the name: it was left as it is."""


def put_new(path: Path, data: bytes) -> Put:
    """Write `data` to `path`, unless a file is there: that is compared, and never changed."""
    if there := _compare(path, data):
        return there
    temporary = path.with_name(f".{os.getpid()}.part")
    try:
        temporary.write_bytes(data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return _compare(path, data) or Put.DIFFERENT
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    return Put.WRITTEN


def _compare(path: Path, data: bytes) -> Put | None:
    try:
        size = path.lstat().st_size
    except FileNotFoundError:
        return None
    if not path.is_file() or (size != len(data) and not path.is_symlink()):
        return Put.DIFFERENT
    return Put.KEPT if path.read_bytes() == data else Put.DIFFERENT
