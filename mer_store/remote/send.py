"""Sending a part to a remote: its files under a name that says what is in them, its record last."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from mer_store.errors import StoreDamagedError
from mer_store.remote.bucket import Bucket
from mer_store.remote.layout import (
    INDEX_FILE,
    STORE_FILE,
    SetKey,
    commit_path,
    data_folder,
    index_text,
    spec_path,
    store_text,
)
from mer_store.remote.meter import Meter
from mer_store.remote.receive import settle
from mer_store.remote.side import RemoteSide, Side
from mer_store.remote.subset import Subset
from mer_store.spec import Spec
from mer_store.store.record import CommitRecord, FileFacts

#: Bytes read and sent at once. Clients collect them into parts of their own size.
BLOCK_BYTES = 8 * 2**20
#: A file up to this size is read whole, checked, and sent by one request.
WHOLE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Sender:
    """Puts parts of a store into a bucket."""

    bucket: Bucket
    files: ThreadPoolExecutor
    """Runs files, several at once."""
    meter: Meter
    again: bool = False
    """Send also what seems to be there: what is there may be damaged."""

    def prepare(self, key: SetKey, spec: Spec) -> None:
        """Make the remote a store that has the feature set.

        Raises
        ------
        StoreDamagedError
            Another spec is there under the same name.
        """
        self.bucket.put_new(STORE_FILE, store_text())
        path = spec_path(key)
        text = (spec.to_json() + "\n").encode()
        if not self.bucket.put_new(path, text):
            self.require_spec(key, spec)

    def require_spec(self, key: SetKey, spec: Spec) -> None:
        """Raise `StoreDamagedError` where the spec that is there is another one."""
        if RemoteSide(self.bucket).spec(key) != spec:
            where = self.bucket.where(spec_path(key))
            raise StoreDamagedError(f"{where}: another spec of the same name")

    def send(self, key: SetKey, part: Subset, source: Side) -> None:
        """Put a part's files, then its record.

        Files that an earlier, interrupted push left whole are not sent again.

        Parameters
        ----------
        key
            Of the feature set.
        part
            As it is to be there, and what it is made of.
        source
            Where its files are.

        Raises
        ------
        StoreDamagedError
            A file here is not what its record says: nothing of it is sent.
        TransferError
            It could not be sent.
        """
        record, made = part.record, part.made
        folder = data_folder(key, record)
        there = {} if self.again else self.bucket.sizes(folder)
        sending = []
        for path, facts in sorted(record.files.items()):
            if there.get(path) == facts.n_bytes:
                self.meter.kept(facts.n_bytes)
            elif path in made:
                self.bucket.overwrite(f"{folder}/{path}", made[path])
                self.meter.moved(len(made[path]))
            else:
                sending.append(
                    self.files.submit(
                        self._send_file, folder, path, facts, key, part.source, source
                    )
                )
        settle(sending)
        put = self.bucket.overwrite if self.again else self.bucket.put_new
        put(commit_path(key, record.part_id), record.to_json().encode())
        self.meter.clips(len(record.ledger))

    def _send_file(
        self,
        folder: str,
        path: str,
        facts: FileFacts,
        key: SetKey,
        record: CommitRecord,
        source: Side,
    ) -> None:
        sent = 0

        def pieces() -> Iterator[bytes]:
            nonlocal sent
            self.meter.unexpect(sent)
            sent, digest = 0, hashlib.sha256()
            for start in range(0, facts.n_bytes, BLOCK_BYTES):
                stop = min(start + BLOCK_BYTES, facts.n_bytes)
                block = source.read(key, record, path, start, stop)
                digest.update(block)
                if len(block) != stop - start:
                    break
                if stop == facts.n_bytes and digest.hexdigest() != facts.sha256:
                    break
                yield block
                sent += len(block)
                self.meter.moved(len(block))
            if digest.hexdigest() != facts.sha256:
                raise StoreDamagedError(
                    f"{source.label}: part {record.part_id}, {path}: not what its record states; it was not "
                    f"sent. Run `mer-store verify`, then `mer-store repair`"
                )

        place = f"{folder}/{path}"

        def put() -> None:
            if facts.n_bytes > WHOLE_BYTES:
                self.bucket.put(place, pieces())
            else:
                self.bucket.put_whole(place, b"".join(pieces()), facts.sha256)

        self.bucket.tried(put, place)

    def finish(self) -> None:
        """Write anew the list of all parts, for those who cannot list, where it is not right.

        Another push may write an older list over it: whoever writes looks once more.
        """
        side = RemoteSide(self.bucket)
        there = side.index()
        while (right := index_text(side.listing())) != there:
            self.bucket.overwrite(INDEX_FILE, right)
            there = right
