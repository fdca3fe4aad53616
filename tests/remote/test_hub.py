"""Pushing to a dataset repository: a hub is stood in for by a table of files."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import fsspec
import numpy as np
import pytest
from part_factory import make_set, part_folder, write_part

from mer_store.errors import StoreDamagedError, UsageError
from mer_store.remote import hub
from mer_store.remote.address import Address
from mer_store.remote.bucket import Bucket
from mer_store.remote.hub import HubSender, split_address
from mer_store.remote.meter import Meter
from mer_store.remote.selection import Selection
from mer_store.remote.side import LocalSide
from mer_store.remote.subset import Subset
from mer_store.remote.transfer import Transfer
from mer_store.store.store import Store
from mer_store.store.verify import verify

URL = "hf://datasets/lab/mer2024/features"


class Hub:
    """Keeps what is committed where a bucket in memory finds it."""

    def __init__(self, root) -> None:
        self.root, self.commits, self.repositories = root, [], {}

    def create_repo(self, repository, *, repo_type, private, exist_ok):
        self.repositories[repository] = (repo_type, private, exist_ok)

    def create_commit(self, repository, *, operations, commit_message, repo_type, revision):
        assert (repository, repo_type, revision) == ("lab/mer2024", "dataset", None)
        self.commits.append([one.path_in_repo for one in operations])
        fs = fsspec.filesystem("memory")
        for one in operations:
            with one.as_file() as file:
                fs.pipe_file(f"{self.root}/{one.path_in_repo}", file.read())


@pytest.fixture
def pushing(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "split_address", lambda address: split_address(Address.parse(URL)))
    made = make_set(tmp_path / "store")
    records = [write_part(made, {f"{n}a": 3, f"{n}b": 300}, (17, 18)) for n in range(3)]
    root = f"memory://{tmp_path.name}"
    api = Hub(root)
    with ThreadPoolExecutor(2) as files:
        sender = HubSender(Bucket(Address.parse(f"{root}/features")), files, Meter(), api=api)
        yield SimpleNamespace(sender=sender, api=api, made=made, records=records, root=root)


def push(case, records):
    key, source = ("audio", case.made.name), LocalSide(Store.open(case.made.path.parents[2]))
    case.sender.prepare(key, case.made.spec)
    for record in records:
        case.sender.send(key, Subset(record, record, {}), source)


def test_a_pushed_repository_is_a_store(pushing, tmp_path):
    push(pushing, pushing.records)
    pushing.sender.finish()
    assert pushing.api.repositories == {"lab/mer2024": ("dataset", True, True)}
    *data, records, index = pushing.api.commits
    assert len(data) == 3
    assert all("/parts/" in path for commit in data for path in commit)
    assert sum("/commits/" in path for path in records) == 3
    assert index == ["features/index.json"]
    pulled = Store.create(tmp_path / "pulled")
    with Transfer() as transfer:
        transfer.pull(pulled, Address.parse(f"{pushing.root}/features"), Selection())
    assert verify(pulled, deep=True) == []
    ids = ["0a", "1b", "2a"]
    for ours, theirs in zip(
        pulled.features("audio").ragged([17, 18], ids),
        pushing.made.ragged([17, 18], ids),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_nothing_is_visible_before_its_record_and_what_is_there_is_not_sent_again(pushing):
    push(pushing, pushing.records[:2])
    paths = [path for commit in pushing.api.commits for path in commit]
    assert not any("/commits/" in path for path in paths)
    pushing.api.commits.clear()
    push(pushing, pushing.records)
    assert len(pushing.api.commits) == 1
    assert pushing.sender.meter.n_bytes_kept == sum(r.n_bytes for r in pushing.records[:2])


def test_records_are_committed_on_the_way(pushing, monkeypatch):
    monkeypatch.setattr(hub, "N_PARTS_A_COMMIT", 2)
    push(pushing, pushing.records)
    assert any("/commits/" in path for commit in pushing.api.commits for path in commit)


def test_a_damaged_file_is_not_sent(pushing):
    path = part_folder(pushing.made, pushing.records[0]) / "18/c/0/0"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(StoreDamagedError, match="not sent"):
        push(pushing, pushing.records[:1])
    assert pushing.api.commits == []


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("hf://datasets/lab/mer2024", ("lab/mer2024", None, "")),
        ("hf://datasets/lab/mer2024@v2/a/b", ("lab/mer2024", "v2", "a/b")),
    ],
)
def test_addresses(url, expected):
    assert split_address(Address.parse(url)) == expected
    with pytest.raises(UsageError, match="OWNER/NAME"):
        split_address(Address.parse("hf://lab/mer2024"))
