"""Publishing a part: data durable first, then the record, never over anything that is there."""

import errno
import hashlib
import os
import secrets
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from mer_store.errors import StoreDamagedError
from mer_store.store.layout import (
    MAX_RECORD_BYTES,
    Folders,
    make_folder,
    reading,
    sync_folder,
    write_file,
)
from mer_store.store.metadata import member_metadata, part_metadata, to_text
from mer_store.store.plain_file import open_inside, read_small
from mer_store.store.record import CommitRecord, FileFacts
from mer_store.store.shared import keep_private, seal
from mer_store.strict_json import parse

ATTRIBUTE = "mer_store"
GROUP_FILE = "zarr.json"
_THERE = (errno.EEXIST, errno.ENOTEMPTY)
#: What file systems without hard links answer: FAT, some FUSE and network mounts.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)
_READ_BYTES = 1 << 20
#: Folders synced at once: they share the file system's own commits.
N_SYNCING = 8


def writer_name() -> str:
    """Return a name no other writer has: host (with its process namespace), process, nonce."""
    return f"{host_name()}-{os.getpid()}-{secrets.token_hex(6)}"


def host_name() -> str:
    """Return this host's name, made distinct per container so that process ids can be compared."""
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116 - a link that leads to no path
    except OSError:
        namespace = 0
    host = "".join(c if c.isalnum() or c == "." else "_" for c in socket.gethostname())
    return f"{host}.{namespace:x}"


def stage(folders: Folders) -> Path:
    """Make a folder of one's own to write a part in."""
    path = folders.tmp / writer_name()
    try:
        make_folder(path)
        keep_private(path)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    return path


def publish(folders: Folders, staged: Path, record: CommitRecord) -> CommitRecord:
    """Move a finished part to its place and make it visible.

    Where the part's folder is there already, another writer (or one that crashed) did the same work: what it
    wrote is kept, `staged` is dropped, and its record is published.

    Parameters
    ----------
    folders
        Of the feature set.
    staged
        The part's folder, on the same file system; every file in it durable.
    record
        As `derive_record` gives it for `staged`.

    Returns
    -------
    CommitRecord
        The record that is visible now.
    """
    place = folders.part(record.part_id)
    committed = read_record(folders, record.part_id)
    if committed is None:
        sync_tree(staged)
        record = _settle(folders, staged, place, record)
        sync_folder(folders.parts)
        publish_record(folders, record)
        return record
    if not place.is_dir():
        raise StoreDamagedError(
            f"{place}: missing, yet its record says that it is committed; "
            f"remove {folders.commit(record.part_id)} and run the command again"
        )
    shutil.rmtree(staged)
    return committed


def _settle(folders: Folders, staged: Path, place: Path, record: CommitRecord) -> CommitRecord:
    """Move `staged` to its place, or keep what is there; return the record of what is there then."""
    if _moved(staged, place):
        return record
    try:
        found = derive_record(place)
    except StoreDamagedError:
        # A copy that was broken off. It was never visible, so it may be moved out of the way.
        place.rename(folders.tmp / writer_name())
        if not _moved(staged, place):
            raise
        return record
    shutil.rmtree(staged)
    return found


def _moved(staged: Path, place: Path) -> bool:
    try:
        os.rename(staged, place)  # noqa: PTH104 - Path.rename would hide the one call that matters
    except OSError as error:
        if error.errno not in _THERE:
            raise
        return False
    return True


def publish_record(folders: Folders, record: CommitRecord) -> None:
    """Make a part visible. The first one wins; all of them have the same text."""
    seal(folders.part(record.part_id))
    put_file(folders.commit(record.part_id), record.to_json())


def put_file(final: Path, text: str) -> None:
    """Write a file whole, durable and at once; one that is there is left as it is."""
    temporary = final.with_name(f".{writer_name()}")
    try:
        write_file(temporary, text.encode())
        try:
            os.link(temporary, final)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # Safe: whoever comes second writes the same bytes.
            temporary.rename(final)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(final.parent)


def read_record(folders: Folders, part_id: str) -> CommitRecord | None:
    """Return a committed part's record, None where the part is not committed."""
    path = folders.commit(part_id)
    try:
        with reading(path):
            text = read_small(path, MAX_RECORD_BYTES)
    except FileNotFoundError:
        return None
    record = CommitRecord.from_json(text, where=str(path))
    if record.part_id != part_id:
        raise StoreDamagedError(f"{path}: the record is of part {record.part_id}")
    return record


def contradiction(folders: Folders, record: CommitRecord) -> str | None:
    """Say how a record differs from the one in its part's own ``zarr.json``; None where it does not.

    That file's text follows from the record, and its digest is in the record: mostly it need not be read.
    """
    if record.expected_part_id() != record.part_id:
        return "it is named for other work than it holds"
    facts = record.files.get(GROUP_FILE)
    if facts is None:
        return f"it does not name {GROUP_FILE}"
    files = {path: other for path, other in record.files.items() if path != GROUP_FILE}
    attributes = {ATTRIBUTE: replace(record, files=files).to_values()}
    if FileFacts.of(to_text(part_metadata(member_metadata(record.arrays), attributes))) == facts:
        return None
    try:  # written by another program or version
        text = read_small(folders.part(record.part_id), MAX_RECORD_BYTES, GROUP_FILE)
        values = parse(text)["attributes"][ATTRIBUTE]
        inner = with_group_file(CommitRecord.from_values(values, where=GROUP_FILE), text)
    except (OSError, ValueError, KeyError, TypeError, StoreDamagedError):
        inner = None
    return None if inner == record else f"it says otherwise than the part's own {GROUP_FILE}"


def derive_record(part: Path) -> CommitRecord:
    """Work out the record of a part's folder, checking every file's size and digest.

    Raises
    ------
    StoreDamagedError
        The folder is no whole part: it was not moved there by a writer, or was changed since.
    """
    try:
        text = read_small(part, MAX_RECORD_BYTES, GROUP_FILE)
        values = parse(text)["attributes"][ATTRIBUTE]
        record = CommitRecord.from_values(values, where=str(part / GROUP_FILE))
        for path, facts in record.files.items():
            if file_facts(part, path, facts.n_bytes) != facts:
                raise StoreDamagedError(
                    f"{part / path}: size or digest differs from the part's own record"
                )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreDamagedError(f"{part}: not a whole part: {error}") from error
    return with_group_file(record, text)


def with_group_file(record: CommitRecord, text: bytes) -> CommitRecord:
    """Add the part's own ``zarr.json``, which cannot hold its own digest, to the record's files."""
    return replace(record, files={**record.files, GROUP_FILE: FileFacts.of(text)})


def file_facts(part: Path, path: str, expected_bytes: int | None = None) -> FileFacts:
    """Return size and digest of a file of a part by reading it.

    Where it has not the `expected_bytes` it is not read, and the digest is empty.
    """
    digest = hashlib.sha256()
    n_bytes = 0
    with os.fdopen(open_inside(part, path), "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if expected_bytes is not None and size != expected_bytes:
            return FileFacts(size, "")
        while block := file.read(_READ_BYTES):
            digest.update(block)
            n_bytes += len(block)
    return FileFacts(n_bytes, digest.hexdigest())


def sync_tree(path: Path) -> None:
    """Make the entries of a folder and of all folders below it durable."""
    folders = [Path(folder) for folder, _, _ in os.walk(path)]
    with ThreadPoolExecutor(N_SYNCING, thread_name_prefix="sync") as pool:
        list(pool.map(sync_folder, folders))
