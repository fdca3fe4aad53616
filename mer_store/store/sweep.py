"""Sweeping: what crashed writers left is removed, and what they had all but committed is made visible."""

import os
import re
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

from mer_store.errors import StoreDamagedError
from mer_store.store.commit import derive_record, host_name, publish_record
from mer_store.store.layout import PART_ID, Folders, reading, writing

#: A writer of another host cannot be asked whether it lives; after this long it does not.
OTHER_HOST_S = 7 * 24 * 3600.0
#: What transfers leave in `Folders.tmp` is used by the next one; only its age makes it waste.
PULLED = ".pull-"
#: Notes of parts whose records `prune` took back and whose folders readers may still need.
WITHDRAWN = "withdrawn"
LEFT = "left-"
#: A file being written beside its place: a dot and `writer_name`.
_BESIDE = re.compile(r"\.[\w.]+-\d+-\w+")


@dataclass(frozen=True)
class Swept:
    """What a sweep did. Adds up."""

    n_removed: int = 0
    """Temporary files and folders of dead writers."""
    part_ids: tuple[str, ...] = ()
    """Parts that were whole and lacked only their record."""
    broken: tuple[str, ...] = ()
    """Folders of parts that are not whole and were never visible: a copy under way, or one broken off."""

    def __add__(self, other: "Swept") -> "Swept":
        """Add field by field."""
        return Swept(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Swept)))


def sweep(feature_set_path: Path) -> Swept:
    """Sweep one feature set. Nothing that is committed is touched."""
    folders = Folders(feature_set_path)
    with reading(feature_set_path), writing(feature_set_path):
        dotted = (folders.path, folders.commits, folders.path / WITHDRAWN)
        n_removed = sum(sweep_files(path) for path in dotted)
        done, broken = _roll_forward(folders)
        n_removed += sum(_remove(path) for path in _names(folders.tmp) if _is_dead(path, folders))
    return Swept(n_removed, done, broken)


def sweep_files(folder: Path) -> int:
    """Remove files that dead writers left in a folder, beside the places meant for them; return how many."""
    with reading(folder), writing(folder):
        left = [path for path in _names(folder) if _BESIDE.fullmatch(path.name)]
        return sum(_remove(path) for path in left if not is_at_work(path))


def _roll_forward(folders: Folders) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Publish the record of every whole part that has none and whose record was not taken back."""
    done, broken = [], []
    committed = {path.name for path in _names(folders.commits)}
    committed |= {path.name for path in _names(folders.path / WITHDRAWN)}
    for part in _names(folders.parts):
        if f"{part.name}.json" in committed or not PART_ID.fullmatch(part.name):
            continue
        try:
            record = derive_record(part)
            if record.part_id != part.name:
                raise StoreDamagedError(f"{part}: holds part {record.part_id}")
        except StoreDamagedError as error:
            broken.append(str(error))
            continue
        publish_record(folders, record)
        done.append(part.name)
    return tuple(done), tuple(broken)


def is_at_work(path: Path) -> bool:
    """Tell whether the writer named by a temporary file or folder may still be at it."""
    host, _, rest = path.name.removeprefix(".").partition("-")
    process = rest.partition("-")[0]
    if path.name.startswith(LEFT):
        return False
    if host == host_name() and process.isdecimal():
        return _is_running(int(process))
    return not _is_old(path)


def _is_dead(path: Path, folders: Folders) -> bool:
    """Tell whether something in `Folders.tmp` is waste: nobody is at it, no transfer will go on with it."""
    _, pulled, part_id = path.name.rpartition(PULLED)
    if pulled and not folders.commit(part_id).exists():
        return _is_old(path)
    return not is_at_work(path)


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > OTHER_HOST_S
    except FileNotFoundError:
        return False


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _remove(path: Path) -> bool:
    """Remove what a dead writer left; what is another user's stays until that user sweeps."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(PermissionError):
            path.unlink(missing_ok=True)
    return not os.path.lexists(path)


def _names(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir())
    except FileNotFoundError:
        return []
