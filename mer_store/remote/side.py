"""The two kinds of place that parts come from: a store on disk, and a remote."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mer_store.errors import StoreDamagedError, UsageError
from mer_store.remote.address import Address
from mer_store.remote.bucket import Bucket
from mer_store.remote.layout import (
    INDEX_FILE,
    MAX_INDEX_BYTES,
    STORE_FILE,
    Listing,
    SetKey,
    commit_path,
    commits_folder,
    data_folder,
    is_part_id,
    is_set_key,
    read_index,
    spec_path,
    store_text,
)
from mer_store.remote.s3 import PIECE_BYTES
from mer_store.spec import Spec
from mer_store.store.commit import read_record
from mer_store.store.layout import MAX_RECORD_BYTES, MAX_SMALL_BYTES, Folders, reading
from mer_store.store.plain_file import open_inside, read_small
from mer_store.store.record import CommitRecord
from mer_store.store.store import Store


class Side(Protocol):
    """Where parts are read from."""

    @property
    def label(self) -> str:
        """What to call it in messages."""
        ...

    def listing(self) -> Listing:
        """Return the parts that are committed now."""
        ...

    def spec(self, key: SetKey) -> Spec:
        """Return a feature set's spec."""
        ...

    def record(self, key: SetKey, part_id: str) -> CommitRecord:
        """Return a part's commit record, checked. Raises `StoreDamagedError`."""
        ...

    def read(self, key: SetKey, record: CommitRecord, path: str, start: int, stop: int) -> bytes:
        """Return bytes of a file of a part."""
        ...

    def stream(
        self, key: SetKey, record: CommitRecord, path: str, start: int, stop: int
    ) -> Iterator[bytes] | None:
        """Yield bytes of a file of a part as they come; None where there is only `read`."""
        ...


@dataclass(frozen=True)
class LocalSide:
    """A store on disk."""

    store: Store

    @property
    def label(self) -> str:
        """The store's folder."""
        return str(self.store.path)

    def _folders(self, key: SetKey) -> Folders:
        return Folders(self.store.path / "features" / key[0] / key[1])

    def listing(self) -> Listing:
        """Return the parts that are committed now."""
        return {
            (one.spec.modality, one.name): frozenset(one.part_ids())
            for one in self.store.feature_sets()
        }

    def spec(self, key: SetKey) -> Spec:
        """Return a feature set's spec."""
        path = self._folders(key).spec
        with reading(path):
            return checked_spec(read_small(path, MAX_SMALL_BYTES), key, str(path))

    def record(self, key: SetKey, part_id: str) -> CommitRecord:
        """Return a part's commit record, checked."""
        record = read_record(self._folders(key), part_id)
        where = self._folders(key).commit(part_id)
        if record is None:
            raise StoreDamagedError(f"{where}: vanished meanwhile; run the command again")
        return checked_record(record, key, part_id, str(where))

    def part_folder(self, key: SetKey, part_id: str) -> Path:
        """Return the folder of a part's files."""
        return self._folders(key).part(part_id)

    def read(self, key: SetKey, record: CommitRecord, path: str, start: int, stop: int) -> bytes:
        """Return bytes of a file of a part."""
        part = self.part_folder(key, record.part_id)
        try:
            descriptor = open_inside(part, path)
        except FileNotFoundError as error:
            raise StoreDamagedError(
                f"{part / path}: missing; run `mer-store verify` there"
            ) from error
        try:
            return os.pread(descriptor, stop - start, start)
        finally:
            os.close(descriptor)

    def stream(
        self, key: SetKey, record: CommitRecord, path: str, start: int, stop: int
    ) -> Iterator[bytes]:
        """Yield bytes of a file of a part."""
        for at in range(start, stop, PIECE_BYTES):
            yield self.read(key, record, path, at, min(at + PIECE_BYTES, stop))


@dataclass(frozen=True)
class RemoteSide:
    """A store behind a URL."""

    bucket: Bucket

    @property
    def label(self) -> str:
        """The URL."""
        return str(self.bucket.address)

    def is_there(self) -> bool:
        """Tell whether a store was pushed there.

        Raises
        ------
        UsageError
            What is there is no store, or of another format.
        """
        try:
            text = self.bucket.get(STORE_FILE, MAX_SMALL_BYTES)
        except FileNotFoundError:
            return False
        if text.split() != store_text().split():
            raise UsageError(
                f"{self.bucket.where(STORE_FILE)}: expected {store_text().decode().strip()}, "
                f"got {text[:80]!r}; is it a store of a newer mer-store?"
            )
        return True

    def listing(self) -> Listing:
        """Return the parts that are committed now, by the index object where nothing can be listed."""
        if self.bucket.address.is_read_only:
            try:
                text = self.bucket.get(INDEX_FILE, MAX_INDEX_BYTES)
            except FileNotFoundError as error:
                raise UsageError(
                    f"{self.bucket.where(INDEX_FILE)}: not there; is {self.label} a store? Push to the "
                    f"bucket behind it, or run `mer-store serve`"
                ) from error
            return read_index(text, self.bucket.where(INDEX_FILE))
        listing: Listing = {}
        for modality in self.bucket.names("features"):
            for name in self.bucket.names(f"features/{modality}"):
                if is_set_key(modality, name):
                    listing[modality, name] = self.part_ids((modality, name))
        return listing

    def index(self) -> bytes:
        """Return the text of the index object, empty where there is none."""
        try:
            return self.bucket.get(INDEX_FILE, MAX_INDEX_BYTES)
        except FileNotFoundError:
            return b""

    def part_ids(self, key: SetKey) -> frozenset[str]:
        """Return the parts of one feature set that are committed now."""
        names = self.bucket.names(commits_folder(key))
        stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
        return frozenset(stem for stem in stems if is_part_id(stem))

    def spec(self, key: SetKey) -> Spec:
        """Return a feature set's spec."""
        path = spec_path(key)
        try:
            text = self.bucket.get(path, MAX_SMALL_BYTES)
        except FileNotFoundError as error:
            raise StoreDamagedError(f"{self.bucket.where(path)}: missing") from error
        return checked_spec(text, key, self.bucket.where(path))

    def record(self, key: SetKey, part_id: str) -> CommitRecord:
        """Return a part's commit record, checked."""
        path = commit_path(key, part_id)
        try:
            text = self.bucket.get(path, MAX_RECORD_BYTES)
        except FileNotFoundError as error:
            raise StoreDamagedError(f"{self.bucket.where(path)}: vanished meanwhile") from error
        record = CommitRecord.from_json(text, self.bucket.where(path))
        return checked_record(record, key, part_id, self.bucket.where(path))

    def read(self, key: SetKey, record: CommitRecord, path: str, start: int, stop: int) -> bytes:
        """Return bytes of a file of a part."""
        place = f"{data_folder(key, record)}/{path}"
        with self._there(place):
            return self.bucket.get_range(place, start, stop)

    def stream(
        self, key: SetKey, record: CommitRecord, path: str, start: int, stop: int
    ) -> Iterator[bytes] | None:
        """Yield bytes of a file of a part as they come, where the remote has streams."""
        place = f"{data_folder(key, record)}/{path}"
        pieces = self.bucket.stream(place, start, stop)
        return None if pieces is None else self._streamed(place, pieces)

    def _streamed(self, place: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
        with self._there(place):
            yield from pieces

    @contextmanager
    def _there(self, place: str) -> Iterator[None]:
        """Say what it means that a file of a part is not there."""
        try:
            yield
        except FileNotFoundError as error:
            raise StoreDamagedError(
                f"{self.bucket.where(place)}: missing, yet its part is committed; "
                f"who has this part may push it again with `--again`"
            ) from error


def open_side(address: Address) -> Side:
    """Return the side at an address.

    Raises
    ------
    UsageError
        There is no store.
    """
    if address.is_folder:
        return LocalSide(Store.open(address.folder))
    side = RemoteSide(Bucket(address))
    if not side.is_there():
        raise UsageError(f"{address}: no store there; `mer-store push {address}` makes one")
    return side


def checked_spec(text: bytes, key: SetKey, where: str) -> Spec:
    """Read a spec and refuse one of another feature set."""
    spec = Spec.from_json(text.decode("utf-8", "replace"), where=where)
    if (spec.modality, spec.name) != key:
        raise StoreDamagedError(
            f"{where}: expected the spec of {key[0]}/{key[1]}, got that of {spec.modality}/{spec.name}"
        )
    return spec


def checked_record(record: CommitRecord, key: SetKey, part_id: str, where: str) -> CommitRecord:
    """Refuse a record that is of another part, or not named by what it holds."""
    if record.part_id != part_id or record.expected_part_id() != part_id:
        raise StoreDamagedError(
            f"{where}: expected the record of part {part_id}, got one of {record.expected_part_id()}"
        )
    if not key[1].endswith(f"-{record.fingerprint}"):
        raise StoreDamagedError(f"{where}: a part of spec {record.fingerprint}, not of {key[1]}")
    return record


def is_store(folder: Path) -> bool:
    """Tell whether a folder is a store; one that may not be read raises."""
    with reading(folder):
        try:
            return stat.S_ISREG((folder / STORE_FILE).stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False
