"""Receiving a part: hashed while it comes, checked against its record, visible only when whole."""

import secrets
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from mer_store.errors import StoreDamagedError
from mer_store.remote.expected import check_files
from mer_store.remote.fetch import Fetcher, place_in
from mer_store.remote.meter import Meter
from mer_store.remote.subset import inner_record, known_texts
from mer_store.store.commit import GROUP_FILE, publish, writer_name
from mer_store.store.finite import fits
from mer_store.store.layout import MAX_RECORD_BYTES, Folders, make_folder, write_file, writing
from mer_store.store.part_files import OFFSETS
from mer_store.store.plain_file import read_small
from mer_store.store.record import CommitRecord
from mer_store.store.shard_file import ChunkDamaged
from mer_store.store.shard_reader import ShardReader
from mer_store.store.shared import keep_private
from mer_store.store.sweep import LEFT, PULLED, is_at_work


class Receiver:
    """Fetches parts from a side into a feature set on disk.

    Parameters
    ----------
    folders
        Of the feature set.
    fetcher
        Fetches files from there.
    files
        Runs files, several of each part.
    meter
        Told what is done.
    """

    def __init__(
        self, folders: Folders, fetcher: Fetcher, files: ThreadPoolExecutor, meter: Meter
    ) -> None:
        self._folders, self._fetcher = folders, fetcher
        self._files, self._meter = files, meter
        self._label = fetcher.side.label

    def receive(
        self, record: CommitRecord, source: CommitRecord, made: dict[str, bytes]
    ) -> CommitRecord:
        """Fetch a part, or the part that `record` makes of `source`, and make it visible.

        What an earlier attempt left is used, after it was read and checked again.

        Raises
        ------
        StoreDamagedError
            What came is not what the record says; nothing of it is visible.
        TransferError
            It could not be fetched; what was is kept for the next time.
        """
        check_files(source, f"{self._label}: part {source.part_id}")
        with self._staged(record) as staged, writing(self._folders.path):
            texts = made | {p: t for p, t in known_texts(record).items() if p not in made}
            for path in texts:
                place_in(staged, path).unlink(missing_ok=True)
                write_file(staged / path, texts[path])
                self._meter.made(len(texts[path]))
            fetching: list[Future[None]] = []
            try:
                for path, facts in sorted(record.files.items()):
                    if path not in texts:
                        fetching.append(
                            self._files.submit(self._fetcher.fetch, staged, path, facts, source)
                        )
            finally:  # also where the transfer ends meanwhile: from then on nobody writes here
                settle(fetching)
            self._check(staged, record)
            published = publish(self._folders, staged, record)
        self._meter.clips(len(record.ledger))
        return published

    @contextmanager
    def _staged(self, record: CommitRecord) -> Iterator[Path]:
        """Give a folder of one's own for the part: what a stopped or dead transfer left, or a new one."""
        suffix = f"{PULLED}{record.part_id}"
        tmp = self._folders.tmp
        staged = tmp / f"{writer_name()}{suffix}"
        with writing(self._folders.path):
            self._folders.make()
            left = [path for path in sorted(tmp.glob(f"*{suffix}")) if not is_at_work(path)]
            if not any(_moved(path, staged) for path in left):
                make_folder(staged)
                keep_private(staged)
        try:
            yield staged
        finally:
            if staged.is_dir():  # of nobody now: the next one to want it takes it
                _moved(staged, tmp / f"{LEFT}{secrets.token_hex(6)}{suffix}")

    def _place(self, staged: Path, path: str) -> Path:
        place = staged / path
        make_folder(place.parent)
        return place

    def _check(self, staged: Path, record: CommitRecord) -> None:
        """Check what digests do not: that the part describes itself as its record does, and its values."""
        where = f"{self._label}: part {record.part_id}"
        try:
            text = read_small(staged / GROUP_FILE, MAX_RECORD_BYTES)
            if inner_record(text, where) != record:
                raise StoreDamagedError(f"{where}: its {GROUP_FILE} describes another part")
            for name, info in record.arrays.items():
                reader = ShardReader(staged, name, info)
                for start, block in reader.stream(verify=True):
                    if name in map(str, record.layers) and fits(block, block.dtype) is None:
                        raise StoreDamagedError(
                            f"{where}: layer {name} holds values that are not finite, from row {start} on"
                        )
            self._check_offsets(staged, record)
        except (ChunkDamaged, ValueError, KeyError, TypeError, OSError) as error:
            raise StoreDamagedError(f"{where}: {error}") from error

    def _check_offsets(self, staged: Path, record: CommitRecord) -> None:
        reader = ShardReader(staged, OFFSETS, record.arrays[OFFSETS])
        offsets = np.empty(reader.info.shape, np.int64)
        reader.read(offsets, verify=True)
        lengths = [row.n_rows for row in record.ledger if row.status == "ok"]
        if not np.array_equal(offsets, np.cumsum([0, *lengths])):
            raise StoreDamagedError(f"part {record.part_id}: offsets differ from its record's rows")


def settle(futures: list[Future[None]]) -> None:
    """Wait for all; raise the first error, once nothing is being written any more."""
    error: BaseException | None = None
    for future in futures:
        try:
            future.result()
        except BaseException as problem:  # noqa: BLE001 - raised below, when all have ended
            error = error or problem
            for other in futures:
                other.cancel()
    if error is not None:
        raise error


def _moved(path: Path, to: Path) -> bool:
    try:
        path.rename(to)
    except FileNotFoundError:
        return False
    return True
