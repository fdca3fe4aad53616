"""Verifying a store: every file against its record, and the exact clips and layers that are hit."""

import os
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from mer_store.errors import StoreDamagedError
from mer_store.store.feature_set import FeatureSet
from mer_store.store.files_below import files_below
from mer_store.store.finding import Finding
from mer_store.store.layout import MAX_RECORD_BYTES, Folders, reading
from mer_store.store.part_check import Looked, PartCheck
from mer_store.store.plain_file import read_small
from mer_store.store.record import CommitRecord, misfit
from mer_store.store.store import Store
from mer_store.store.strays import FeatureSetFolder, feature_set_folders, strays
from mer_store.store.watch import Brake, Silent, Watch

__all__ = ["Finding", "verify"]

MAX_THREADS = 8
#: Parts whose files are being read at once, so that small parts keep all threads busy.
_PARTS_AHEAD = 8

Files = list[Future[dict[str, Looked]]]


def verify(
    subject: Store | FeatureSet,
    *,
    deep: bool = False,
    watch: Watch | None = None,
    n_threads: int | None = None,
    only: Collection[str] | None = None,
) -> list[Finding]:
    """Check everything that is committed, reading every byte once.

    Sizes, SHA-256, checksums of chunks, offsets and texts are compared with the commit records; what lies in
    the store and should not is found, too.

    Parameters
    ----------
    subject
        A store or one of its feature sets.
    deep
        Also look at every value: finite, and of each clip the rows that its checksum says.
    watch
        Told of bytes and parts.
    n_threads
        Files read at once; None is one more than there are processors, since they wait for the interpreter
        now and then, at most `MAX_THREADS`.
    only
        Ids of the parts to look at, and at nothing beside them; None is everything.

    Returns
    -------
    list
        What is wrong; empty where nothing is.

    Raises
    ------
    UsageError
        Something may not be read.
    """
    if isinstance(subject, Store):
        folders, found = feature_set_folders(subject)
    else:
        folders, found = [FeatureSetFolder.of(subject)], []
    watch = watch or Silent()
    for folder in folders:
        watch.expect(*_extent(folder, only))
    n_threads = n_threads or min(len(os.sched_getaffinity(0)) + 1, MAX_THREADS)
    brake = Brake(watch)
    pool = ThreadPoolExecutor(n_threads, thread_name_prefix="verify")
    try:
        for folder in folders:
            if only is None:
                found += strays(folder.path, folder.name, folder.modality)
            found += _Checking(folder, brake, pool, deep=deep).findings(_part_ids(folder, only))
    finally:
        brake.pull()
        pool.shutdown(cancel_futures=True)
    return found


class _Checking:
    """Checks the parts of one feature set, a few at a time."""

    def __init__(
        self, folder: FeatureSetFolder, brake: Brake, pool: ThreadPoolExecutor, *, deep: bool
    ) -> None:
        self._folder, self._brake, self._pool, self._deep = folder, brake, pool, deep
        self._folders = Folders(folder.path)

    def findings(self, part_ids: Iterable[str]) -> Iterator[Finding]:
        """Yield what is wrong, part by part."""
        ahead: deque[tuple[PartCheck, Files]] = deque()
        for part_id in part_ids:
            read = self._read(part_id)
            if read is None:
                continue  # removed while we looked
            if isinstance(read, str):
                yield self._of_record(part_id, read, None)
                continue
            yield from self._misfits(part_id, read[0])
            place = self._folders.part(part_id)
            check = PartCheck(
                self._folder.name,
                place,
                *read,
                modality=self._folder.modality,
                deep=self._deep,
                hook=self._brake,
            )
            if missing := check.missing():
                yield missing
                continue
            ahead.append((check, [self._pool.submit(job) for job in check.jobs()]))
            if len(ahead) > _PARTS_AHEAD:
                yield from self._settle(*ahead.popleft())
        while ahead:
            yield from self._settle(*ahead.popleft())

    def _settle(self, check: PartCheck, files: Files) -> Iterator[Finding]:
        looked: dict[str, Looked] = {}
        for future in files:
            looked |= future.result()
        yield from check.findings(looked)
        self._brake.watch.add(0, 1)

    def _read(self, part_id: str) -> tuple[CommitRecord, bytes] | str | None:
        """Return a record and its text, what is wrong with it, or None where there is none."""
        path = self._folders.commit(part_id)
        try:
            with reading(path):
                text = read_small(path, MAX_RECORD_BYTES)
            record = CommitRecord.from_json(text, where=str(path))
        except FileNotFoundError:
            return None
        except StoreDamagedError as error:
            return str(error)
        if record.part_id != part_id:
            return f"the record is of part {record.part_id}"
        return record, text

    def _misfits(self, part_id: str, record: CommitRecord) -> Iterator[Finding]:
        """Yield what a record says that does not fit its place."""
        if problem := misfit(record, self._folder.feature_set.spec):
            yield self._of_record(part_id, problem, record)
        if record.expected_part_id() != part_id:
            problem = "the record is named for other work than it holds"
            yield self._of_record(part_id, problem, record)

    def _of_record(self, part_id: str, problem: str, record: CommitRecord | None) -> Finding:
        layers, clip_ids = (record.layers, record.clip_ids) if record else ((), ())
        path, folder = f"commits/{part_id}.json", self._folder
        return Finding(
            folder.name, part_id, path, problem, layers, clip_ids, "part", folder.modality
        )


def _part_ids(folder: FeatureSetFolder, only: Collection[str] | None) -> list[str]:
    return [one for one in folder.feature_set.part_ids() if only is None or one in only]


def _extent(folder: FeatureSetFolder, only: Collection[str] | None) -> tuple[int, int]:
    """Return bytes and number of the committed parts, without reading any record."""
    part_ids = _part_ids(folder, only)
    places = Folders(folder.path)
    return sum(folder_bytes(places.part(part_id)) for part_id in part_ids), len(part_ids)


def folder_bytes(path: Path) -> int:
    """Return the size of all files below a folder; 0 where there is none, or a link."""
    return 0 if path.is_symlink() else sum(_size(entry) for _, entry in files_below(path))


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except OSError:  # gone meanwhile
        return 0
