"""Fetching files of parts: many requests ahead, hashed while they come, kept when they are interrupted."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path

from mer_store.errors import StoreDamagedError
from mer_store.remote.layout import SetKey
from mer_store.remote.meter import Meter
from mer_store.remote.side import Side
from mer_store.store.commit import file_facts
from mer_store.store.layout import FILE_MODE, make_folder
from mer_store.store.record import CommitRecord, FileFacts

#: A file up to this size comes in one stream, where the remote has streams. One connection may be slow: of a
#: larger file several ranges come at once, as other programs do from this size on.
STREAM_BYTES = 256 * 2**20
#: Bytes of one range, and how many ranges of one file are on their way at once.
BLOCK_BYTES = 8 * 2**20
N_AHEAD = 4
#: A file that comes wrong is fetched again so many times.
N_FETCHES = 3
_PARTIAL = ".partial"


@dataclass(frozen=True)
class Fetcher:
    """Fetches files of the parts of one feature set."""

    side: Side
    key: SetKey
    requests: ThreadPoolExecutor
    """Runs requests, several of each file."""
    meter: Meter

    def fetch(self, folder: Path, path: str, facts: FileFacts, source: CommitRecord) -> None:
        """Fetch a file of `source` to its place in `folder`: whole, right and durable.

        What an earlier attempt left there is used, after it was read and checked again.

        Raises
        ------
        StoreDamagedError
            The file is not what the record says.
        TransferError
            It cannot be fetched; what was is kept for the next time.
        """
        place = place_in(folder, path)
        if place.exists():
            if file_facts(folder, path) == facts:
                self.meter.kept(facts.n_bytes)
                return
            place.unlink()
        if source.files.get(path) != facts:
            raise StoreDamagedError(f"part {source.part_id}: {path} differs from the subset's")
        for _ in range(N_FETCHES):
            if self._stream(place, path, facts, source):
                return
            self.meter.unexpect(facts.n_bytes)
        raise StoreDamagedError(
            f"{self.side.label}: part {source.part_id}, {path}: came {N_FETCHES} times with another "
            f"SHA-256 than its record states; run `mer-store verify` there, or ask who pushed "
            f"it to push it again"
        )

    def _stream(self, place: Path, path: str, facts: FileFacts, source: CommitRecord) -> bool:
        """Fetch a file, going on where an earlier attempt stopped; tell whether its digest is right."""
        partial = place.with_name(place.name + _PARTIAL)
        digest = hashlib.sha256()
        with _own(partial) as file:
            if place.exists():  # another process with the same cache was faster
                partial.unlink()
                return True
            start = _hash_what_is_there(file.fileno(), facts.n_bytes, digest)
            file.truncate(start)
            self.meter.kept(start)
            for n_requests, block in self._arriving(path, start, facts.n_bytes, source):
                file.write(block)
                digest.update(block)
                self.meter.moved(len(block), n_requests)
            file.flush()
            if digest.hexdigest() != facts.sha256:
                partial.unlink()
                return False
            os.fchmod(file.fileno(), FILE_MODE)
            os.fsync(file.fileno())
            partial.rename(place)
        return True

    def _arriving(
        self, path: str, start: int, stop: int, source: CommitRecord
    ) -> Iterator[tuple[int, bytes]]:
        """Yield a file's bytes in order, each time with how many requests were made since."""
        stream = None
        if stop - start <= STREAM_BYTES:
            stream = self.side.stream(self.key, source, path, start, stop)
        if stream is None:
            for block in self._blocks(path, start, stop, source):
                yield 1, block
            return
        at = start
        for block in stream:
            yield int(at == start), block
            at += len(block)
        if at != stop:
            raise self._short(path, at, stop, source)

    def _short(self, path: str, at: int, stop: int, source: CommitRecord) -> StoreDamagedError:
        return StoreDamagedError(
            f"{self.side.label}: part {source.part_id}, {path}: ends at byte {at}; its record states {stop}"
        )

    def _blocks(self, path: str, start: int, stop: int, source: CommitRecord) -> Iterator[bytes]:
        """Yield a file's bytes in order, a few requests ahead."""
        spans = [(at, min(at + BLOCK_BYTES, stop)) for at in range(start, stop, BLOCK_BYTES)]
        waiting: list[Future[bytes]] = []
        try:
            for number in range(len(spans)):
                # The first alone: some servers hash a file whole before they send a first piece of it.
                n_ahead = N_AHEAD if number else 1
                while len(waiting) < n_ahead and number + len(waiting) < len(spans):
                    span = spans[number + len(waiting)]
                    waiting.append(
                        self.requests.submit(self.side.read, self.key, source, path, *span)
                    )
                block = waiting.pop(0).result()
                begin, end = spans[number]
                if len(block) != end - begin:
                    raise self._short(path, begin + len(block), stop, source)
                yield block
        finally:
            for future in waiting:
                future.cancel()


def place_in(folder: Path, path: str) -> Path:
    """Return where a file of a part goes, its folder made."""
    place = folder / path
    make_folder(place.parent)
    return place


@contextmanager
def _own(path: Path) -> Iterator[BufferedRandom]:
    """Open a file to write on, once nobody else in any process does."""
    while True:
        with path.open("ab+") as file:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                yield file
                return


def _hash_what_is_there(descriptor: int, limit: int, digest: "hashlib._Hash") -> int:
    """Hash the front of a file, at most `limit` bytes of it; return how many."""
    at = 0
    while block := os.pread(descriptor, min(BLOCK_BYTES, limit - at), at):
        digest.update(block)
        at += len(block)
    return at
