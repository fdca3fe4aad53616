"""Where things lie in a store, and the modes they get."""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mer_store.errors import StoreDamagedError, StoreFullError, UsageError

FORMAT = 1
STORE_FILE = "store.json"
SPEC_FILE = "spec.json"
CACHE_FOLDER = ".cache"
PART_ID = re.compile(r"[0-9a-f]{32}")

#: Files never change once written. Folders take their parent's mode, so that a store made for a group stays
#: the group's whatever each writer's umask is.
FILE_MODE = 0o444

#: Largest ``store.json``, ``spec.json`` or ``zarr.json`` of an array: ours have 20, 600 and 900 bytes.
MAX_SMALL_BYTES = 1 << 20
#: Largest commit record, or ``zarr.json`` of a part, which holds it: about 300 bytes a clip.
MAX_RECORD_BYTES = 1 << 26

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PIECE = re.compile(r"[\w+-][\w.+-]*")
_MAX_NAME_CHARS = 200
_MAX_PIECES = 12
#: What opening a socket, or a device that is not there, answers.
_NO_FILE = (errno.ENXIO, errno.ENODEV)
#: Opening never waits (for a pipe's writer), never follows a link.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders of one feature set."""

    path: Path

    @property
    def spec(self) -> Path:
        """The file that says what decides the numbers."""
        return self.path / SPEC_FILE

    @property
    def parts(self) -> Path:
        """One Zarr group per part."""
        return self.path / "parts"

    @property
    def commits(self) -> Path:
        """One record per committed part."""
        return self.path / "commits"

    @property
    def tmp(self) -> Path:
        """Parts being written."""
        return self.path / "tmp"

    def part(self, part_id: str) -> Path:
        """Return the folder of a part."""
        return self.parts / part_id

    def commit(self, part_id: str) -> Path:
        """Return the commit record of a part."""
        return self.commits / f"{part_id}.json"

    def make(self) -> None:
        """Make the folders that are missing."""
        for folder in (self.parts, self.commits, self.tmp):
            make_folder(folder)


def make_folder(path: Path) -> None:
    """Make a folder of a store, and its parents, with the mode of the nearest folder that is there."""
    try:
        path.mkdir()
    except FileExistsError:
        return
    except FileNotFoundError:
        make_folder(path.parent)
        make_folder(path)
        return
    path.chmod(stat.S_IMODE(path.parent.stat().st_mode))


def write_file(path: Path, data: bytes) -> None:
    """Write a new file, durable and read-only once this returns. Its folder is not synced."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fchmod(descriptor, FILE_MODE)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Make a folder's entries durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def check_folder(path: Path) -> None:
    """Refuse what stands in place of a store's folder: a link leads out of the store, a file nowhere.

    Raises
    ------
    StoreDamagedError
        The path is there and no folder.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode):
        raise StoreDamagedError(
            f"{path}: a symbolic link; inside a store there are none. Put the whole store where there is "
            f"room, and link to it from outside"
        )
    if not stat.S_ISDIR(mode):
        raise StoreDamagedError(f"{path}: expected a folder")


def _has_link(root: Path, relative: str) -> bool:
    path = root
    for piece in ("", *relative.split("/")):
        path = path / piece
        if path.is_symlink():
            return True
    return False


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn "permission denied" into a message: an unreadable store must never look like an empty one."""
    try:
        yield
    except PermissionError as error:
        where = error.filename or path
        raise UsageError(
            f"{where}: permission denied. The store is there but this user may not read it; "
            f"ask its owner for read access to {path} and all below it"
        ) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a full disk, quota or file-size limit into `StoreFullError`, and a refusal into a message."""
    try:
        yield
    except PermissionError as error:
        where = error.filename or path
        raise UsageError(
            f"{where}: permission denied. Ask the store's owner for write access"
        ) from error
    except OSError as error:
        if error.errno == errno.EROFS:
            raise UsageError(
                f"{error.filename or path}: on a read-only file system; choose another --store, "
                "and merge the two later"
            ) from error
        if error.errno not in _FULL:
            raise
        raise StoreFullError(
            f"{path}: cannot write: {error.strerror}. All that was committed is untouched and what was being "
            f"written is dropped; make room (or raise the quota) and run the same command again"
        ) from error
