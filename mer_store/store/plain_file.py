"""Plain files and their names: what may be opened in a store that anyone may have written."""

import errno
import os
import re
import stat
from pathlib import Path

from mer_store.errors import StoreDamagedError

_PIECE = re.compile(r"[\w+-][\w.+-]*")
_MAX_NAME_CHARS = 200
_MAX_PIECES = 12
#: What opening a socket, or a device that is not there, answers.
_NO_FILE = (errno.ENXIO, errno.ENODEV)
#: Opening never waits (for a pipe's writer), never follows a link.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def is_safe_name(name: str) -> bool:
    """Tell whether a name can be a file's: letters, digits and . _ + -, with no dot in front."""
    return len(name) <= _MAX_NAME_CHARS and _PIECE.fullmatch(name) is not None


def is_part_name(name: str) -> bool:
    """Tell whether a name can be that of a layer, table or file of a part: as above, and ASCII.

    Other letters would be one name here and two elsewhere (``é`` is written in two ways), or look alike.
    """
    return name.isascii() and is_safe_name(name)


def is_safe_path(path: str) -> bool:
    """Tell whether a relative path of a record stays inside its part: no ``..``, no leading slash."""
    pieces = path.split("/", _MAX_PIECES)
    return len(pieces) <= _MAX_PIECES and all(map(is_part_name, pieces))


def open_inside(root: Path, relative: str) -> int:
    """Open a file below `root` for reading, following no link on the way.

    Raises
    ------
    StoreDamagedError
        The path leaves `root`, passes through a symbolic link, or leads to a pipe or a device.
    OSError
        The file cannot be opened.
    """
    if not is_safe_path(relative):
        raise StoreDamagedError(f"{root}: {relative!r} leaves the part")
    *folders, name = relative.split("/")
    try:
        here = os.open(root, _READ | os.O_DIRECTORY)
        for folder in folders:
            above = here
            try:
                here = os.open(folder, _READ | os.O_DIRECTORY, dir_fd=above)
            finally:
                os.close(above)
        try:
            return _plain(os.open(name, _READ, dir_fd=here), root / relative)
        finally:
            os.close(here)
    except OSError as error:
        if error.errno == errno.ELOOP or (
            error.errno == errno.ENOTDIR and _has_link(root, relative)
        ):
            raise StoreDamagedError(
                f"{root / relative}: a symbolic link; parts hold plain files"
            ) from error
        if error.errno in _NO_FILE:
            raise StoreDamagedError(f"{root / relative}: not a plain file") from error
        raise


def _plain(descriptor: int, path: Path) -> int:
    """Return the descriptor of a plain file; close and refuse that of anything else."""
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise StoreDamagedError(f"{path}: not a plain file")


def open_plain(path: Path) -> int:
    """Open a file for reading, which must be a plain one: no link, no pipe that nobody writes to, no device.

    Raises
    ------
    StoreDamagedError
        It is not.
    OSError
        It cannot be opened.
    """
    try:
        return _plain(os.open(path, _READ), path)
    except OSError as error:
        if error.errno == errno.ELOOP or error.errno in _NO_FILE:
            raise StoreDamagedError(f"{path}: expected a plain file: {error.strerror}") from error
        raise


def read_small(path: Path, limit: int, inside: str = "") -> bytes:
    """Read a whole small file, which must be a plain one.

    Parameters
    ----------
    path
        The file, or the folder that `inside` is relative to.
    limit
        Bytes it may have.
    inside
        As for `open_inside`.

    Raises
    ------
    StoreDamagedError
        It is larger, or not a plain file.
    OSError
        It cannot be opened or read.
    """
    where = path / inside
    descriptor = open_inside(path, inside) if inside else open_plain(path)
    with os.fdopen(descriptor, "rb") as file:
        n_bytes = os.fstat(descriptor).st_size
        if n_bytes > limit:
            raise StoreDamagedError(f"{where}: expected at most {limit} bytes, got {n_bytes}")
        return file.read(n_bytes)


def _has_link(root: Path, relative: str) -> bool:
    path = root
    for piece in ("", *relative.split("/")):
        path = path / piece
        if path.is_symlink():
            return True
    return False
