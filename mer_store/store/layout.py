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
