"""A store that a group shares: its members add parts, and nobody changes or deletes another's.

The folder says so itself, by its sticky bit: in such a folder only the owner of an entry (and of the folder)
may rename or remove it. The set-group-id bit keeps what is made there the group's. All folders of the store
take these bits from it, whatever each writer's umask is; the folders of a finished part lose the right to
write, so that nobody adds a file to them.
"""

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from mer_store.errors import UsageError

FOLDER_MODE = 0o3775
#: What is left of a folder's mode once its part is finished.
_SEALED = 0o555
_OWN = 0o700


def share(path: Path, group: str) -> None:
    """Give an empty store's folder to a group.

    Raises
    ------
    UsageError
        There is no such group, or this user is not in it.
    """
    try:
        shutil.chown(path, group=int(group) if group.isdecimal() else group)
    except LookupError as error:
        raise UsageError(f"group {group!r}: there is none of that name; see `groups`") from error
    except PermissionError as error:
        raise UsageError(
            f"group {group!r}: this user may not give it {path}; name a group that `groups` lists"
        ) from error
    path.chmod(FOLDER_MODE)


def is_shared(folder: Path) -> bool:
    """Tell whether a folder is of a store that a group shares."""
    return bool(folder.stat().st_mode & stat.S_ISVTX)


def keep_private(staged: Path) -> None:
    """Let nobody else into the folder of a part being written, where the store is shared."""
    if is_shared(staged.parent):
        staged.chmod(_OWN)


def seal(part: Path) -> None:
    """Take the right to write from a finished part's folders, where the store is shared.

    Before the part had its place this could not be done: moving a folder to another one writes to it. What
    belongs to another user is left as it is.
    """
    if is_shared(part.parent):
        _set_modes(part, stat.S_IMODE(part.parent.stat().st_mode) & _SEALED)


def unseal(part: Path) -> None:
    """Give the right to write back to a part's owner, so that it can be moved or removed."""
    if stat.S_IMODE(part.lstat().st_mode) & _OWN != _OWN:
        _set_modes(part, _OWN)


def _set_modes(part: Path, mode: int) -> None:
    # From the top, since a folder that is nobody else's to enter is not ours to list, either.
    with suppress(PermissionError):
        part.chmod(mode | _OWN)
    folders = [Path(folder) for folder, _, _ in os.walk(part)]
    for folder in reversed(folders):
        with suppress(PermissionError):
            folder.chmod(mode)
