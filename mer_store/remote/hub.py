"""Sending parts to a dataset repository of the Hugging Face hub: one commit a part, records after them.

The hub limits how often a repository may be committed to, so files are not sent one by one. Repositories
that are not there are made private.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from mer_store.errors import StoreDamagedError, UsageError
from mer_store.remote.address import Address
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
from mer_store.remote.send import Sender
from mer_store.remote.side import LocalSide, RemoteSide, Side
from mer_store.remote.subset import Subset
from mer_store.spec import Spec
from mer_store.store.commit import file_facts

#: Records are committed after so many parts, so that an interrupted push loses few.
N_PARTS_A_COMMIT = 25


def split_address(address: Address) -> tuple[str, str | None, str]:
    """Return (repository, revision, path inside) of ``hf://datasets/<owner>/<name>[@revision][/path]``.

    Raises
    ------
    UsageError
        The address is no dataset repository.
    """
    pieces = address.url.removeprefix("hf://").split("/")
    if len(pieces) < 3 or pieces[0] != "datasets":
        raise UsageError(f"{address}: expected hf://datasets/OWNER/NAME")
    name, _, revision = pieces[2].partition("@")
    return f"{pieces[1]}/{name}", revision or None, "/".join(pieces[3:])


@dataclass(frozen=True)
class HubSender(Sender):
    """Puts parts of a store into a repository, a commit at a time."""

    api: Any = None
    """An `huggingface_hub.HfApi`; None makes one."""
    _ready: dict[str, bytes] = field(default_factory=dict)
    """Records and specs that wait for their commit, by path."""
    _lock: Any = field(default_factory=Lock)

    @property
    def hub(self) -> Any:
        """The client of the hub."""
        if self.api is None:
            from huggingface_hub import HfApi

            object.__setattr__(self, "api", HfApi())
        return self.api

    def prepare(self, key: SetKey, spec: Spec) -> None:
        """Make the repository, and have the feature set's spec sent with the first records."""
        repository, _, _ = split_address(self.bucket.address)
        self.hub.create_repo(repository, repo_type="dataset", private=True, exist_ok=True)
        path, text = spec_path(key), (spec.to_json() + "\n").encode()
        if self.bucket.exists(path):
            self.require_spec(key, spec)
            return
        self._ready[path] = text
        if not self.bucket.exists(STORE_FILE):
            self._ready[STORE_FILE] = store_text()

    def send(self, key: SetKey, part: Subset, source: Side) -> None:
        """Commit a part's files; its record waits for the next commit of records."""
        if not isinstance(source, LocalSide):
            raise UsageError(f"{source.label}: the hub is pushed to from a store on disk")
        record, folder = part.record, data_folder(key, part.record)
        there = {} if self.again else self.bucket.sizes(folder)
        adding: list[tuple[str, Any]] = []
        for path, facts in sorted(record.files.items()):
            if there.get(path) == facts.n_bytes:
                self.meter.kept(facts.n_bytes)
                continue
            place = source.part_folder(key, part.source.part_id)
            if path not in part.made and file_facts(place, path) != facts:
                raise StoreDamagedError(
                    f"{place / path}: not what its record states; it was not sent. Run `mer-store verify`, "
                    f"then `mer-store repair`"
                )
            adding.append((f"{folder}/{path}", part.made.get(path, place / path)))
            self.meter.check()
        if adding:
            self._commit(adding, f"Data of part {record.part_id}")
            self.meter.moved(
                sum(record.files[path.removeprefix(f"{folder}/")].n_bytes for path, _ in adding)
            )
        with self._lock:
            self._ready[commit_path(key, record.part_id)] = record.to_json().encode()
            is_time = len(self._ready) >= N_PARTS_A_COMMIT
        if is_time:
            self._commit_records()
        self.meter.clips(len(record.ledger))

    def finish(self) -> None:
        """Commit the records that wait, then the list of all parts, where it is not right."""
        self._commit_records()
        side = RemoteSide(self.bucket)
        right = index_text(side.listing())
        if right != side.index():
            self._commit([(INDEX_FILE, right)], "List of parts")

    def _commit_records(self) -> None:
        with self._lock:
            ready = list(self._ready.items())
            self._ready.clear()
        if ready:
            self._commit(ready, f"Records of {len(ready)} parts")

    def _commit(self, files: Sequence[tuple[str, Any]], message: str) -> None:
        from huggingface_hub import CommitOperationAdd

        repository, revision, inside = split_address(self.bucket.address)
        head = f"{inside}/" if inside else ""
        self.bucket.tried(
            lambda: self.hub.create_commit(
                repository,
                operations=[CommitOperationAdd(f"{head}{path}", data) for path, data in files],
                commit_message=message,
                repo_type="dataset",
                revision=revision,
            ),
            files[0][0],
        )
