"""Moving things out of the way: into ``quarantine/`` beside them, the record of a part first.

Every step is one rename, so whatever stops it, a part is visible and whole, or not visible.
"""

import os
import re
import stat
from pathlib import Path

from mer_store.errors import StoreDamagedError
from mer_store.store.commit import GROUP_FILE, derive_record, publish_record
from mer_store.store.layout import MAX_RECORD_BYTES, Folders, make_folder, sync_folder
from mer_store.store.plain_file import read_small
from mer_store.store.record import CommitRecord
from mer_store.store.shared import unseal
from mer_store.store.strays import QUARANTINE

RECORD, PART, STRAY = "commit.json", "part", "stray"
_ENTRY = re.compile(r"([0-9a-f]{32})-\d+")


def room(home: Path, name: str) -> Path:
    """Make ``quarantine/<name>-<n>`` in a folder, or return the one that is still empty."""
    make_folder(home / QUARANTINE)
    number = 1
    while True:
        path = home / QUARANTINE / f"{name}-{number}"
        make_folder(path)
        if not os.listdir(path):  # noqa: PTH208 - is there anything at all
            return path
        number += 1


def move(path: Path, to: Path) -> None:
    """Rename, durably; `to` is not there."""
    parent = path.parent
    mode = stat.S_IMODE(parent.stat().st_mode)
    sealed = not mode & stat.S_IWUSR
    if sealed:
        parent.chmod(mode | stat.S_IWUSR)
    try:
        make_folder(to.parent)
        os.rename(path, to)  # noqa: PTH104 - the one call that matters
    finally:
        if sealed:
            parent.chmod(mode)
    sync_folder(to.parent)
    sync_folder(parent)


def move_part(folders: Folders, part_id: str, fingerprint: str, to: Path) -> bool:
    """Move a part's record, then its folder, to `to`; one that is not there is no error.

    Where the record alone was broken and the folder is whole, the folder stays, and its record is made anew.

    Returns
    -------
    bool
        Whether the part is visible again.
    """
    record = folders.commit(part_id)
    if os.path.lexists(record):
        move(record, to / RECORD)
    return _move_folder(folders, part_id, fingerprint, to)


def finish(folders: Folders, fingerprint: str) -> list[tuple[str, Path]]:
    """Go on with parts whose record was moved and whose folder was not; return their ids and places."""
    done = []
    for entry in unfinished(folders):
        match = _ENTRY.fullmatch(entry.name)
        if match:
            _move_folder(folders, match[1], fingerprint, entry)
            done.append((match[1], entry))
    return done


def unfinished(folders: Folders) -> list[Path]:
    """Return what in quarantine holds a record whose part still stands in its place, invisible."""
    try:
        entries = sorted((folders.path / QUARANTINE).iterdir())
    except FileNotFoundError:
        return []
    return [
        entry
        for entry in entries
        if (match := _ENTRY.fullmatch(entry.name))
        and os.path.lexists(entry / RECORD)
        and not os.path.lexists(entry / PART)
        and os.path.lexists(folders.part(match[1]))
        and not os.path.lexists(folders.commit(match[1]))
    ]


def known_record(folders: Folders, part_id: str, moved: Path | None = None) -> CommitRecord | None:
    """Return a part's record, from where it was moved, too; None where it cannot be read."""
    path = folders.commit(part_id) if moved is None else moved / RECORD
    try:
        record = CommitRecord.from_json(read_small(path, MAX_RECORD_BYTES), str(path))
    except (OSError, StoreDamagedError):
        return None
    return record if record.part_id == part_id == record.expected_part_id() else None


def _move_folder(folders: Folders, part_id: str, fingerprint: str, to: Path) -> bool:
    place = folders.part(part_id)
    if not os.path.lexists(place):
        return False
    record, moved = whole(place), known_record(folders, part_id, to)
    if record is not None and (record.part_id, record.fingerprint) == (part_id, fingerprint):
        same_text = moved is not None and moved.files.get(GROUP_FILE) == record.files[GROUP_FILE]
        if moved is None or (same_text and moved != record):  # the record was broken, nothing else
            publish_record(folders, record)
            return True
    if not place.is_symlink():
        unseal(place)
    move(place, to / PART)
    return False


def whole(place: Path) -> CommitRecord | None:
    """Return the record of a part's folder that is whole; None where it is not."""
    try:
        record = derive_record(place)
    except (StoreDamagedError, OSError):
        return None
    return record if record.expected_part_id() == record.part_id else None
