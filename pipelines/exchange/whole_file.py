"""A large file that appears whole or not at all, and takes the place of no other."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mer_store.errors import UsageError
from mer_store.store.commit import writer_name
from mer_store.store.layout import sync_folder, writing

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)


@contextmanager
def whole_file(to: Path) -> Iterator[Path]:
    """Give a temporary name to write to; at the end that file, made durable, gets the name `to`.

    Raises
    ------
    UsageError
        There is something at `to`, or nothing may be written there.
    StoreFullError
        The disk is full. Nothing is left behind.
    """
    refuse_taken(to)
    with writing(to):
        to.parent.mkdir(parents=True, exist_ok=True)
        temporary = to.with_name(f".{writer_name()}.part")
        try:
            yield temporary
            _sync(temporary)
            _settle(temporary, to)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(to.parent)


def refuse_taken(to: Path) -> None:
    """Raise `UsageError` where there is something at `to`."""
    if os.path.lexists(to):
        raise UsageError(f"{to}: is there already and is never changed; choose another --to")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _settle(temporary: Path, to: Path) -> None:
    try:
        os.link(temporary, to)
    except FileExistsError:
        refuse_taken(to)
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        refuse_taken(to)
        temporary.rename(to)
