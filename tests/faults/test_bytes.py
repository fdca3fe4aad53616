"""Any byte of a store changed, cut, added: numbers are right, or an error names what is damaged."""

from pathlib import Path

import pytest
from faults.length import LIMIT_S, LONG
from faults.world import snapshot, told, write

from mer_store.errors import MerStoreError, StoreDamagedError, UsageError
from mer_store.remote.address import Address
from mer_store.remote.selection import Selection
from mer_store.remote.transfer import Transfer
from mer_store.store.store import Store
from mer_store.store.verify import verify

pytestmark = pytest.mark.timeout(LIMIT_S)


def flipped(at, bit=1):
    def change(data):
        place = at if isinstance(at, int) else int(at * (len(data) - 1))
        return data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]

    return change


#: Bytes of a file -> its damaged bytes; None removes it.
DAMAGE = {
    "first byte": flipped(0.0),
    "a third in": flipped(0.33, 4),
    "middle byte": flipped(0.5, 16),
    "two thirds in": flipped(0.67, 2),
    "last byte": flipped(1.0, 128),
    "half gone": lambda data: data[: len(data) // 2],
    "last byte gone": lambda data: data[:-1],
    "emptied": lambda data: b"",
    "a byte more": lambda data: data + b"\0",
    "zeroed": lambda data: bytes(len(data)),
    "deleted": lambda data: None,
}


class Damaged:
    """Damages a file of a store for a while."""

    def __init__(self, path, change):
        self._path, self._change = path, change

    def __enter__(self):
        self._data, self._mode = self._path.read_bytes(), self._path.stat().st_mode
        self._path.chmod(0o644)
        damaged = self._change(self._data)
        if damaged is None:
            self._path.unlink()
        else:
            self._path.write_bytes(damaged)

    def __exit__(self, *error):
        if self._path.exists():
            self._path.chmod(0o644)
        self._path.write_bytes(self._data)
        self._path.chmod(self._mode)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("damage") / "store"
    write(path, "B")
    write(path, "C")
    return Store.open(path)


@pytest.fixture(scope="module")
def whole(store):
    """What the store says undamaged; its index is on disk from here on."""
    return snapshot(store.path)


def files_of(store):
    return sorted(path for path in store.path.rglob("*") if path.is_file())


def part_of(store, path):
    """Return the id of the part that a file belongs to, None for what is the whole store's."""
    pieces = path.relative_to(store.path).parts
    return pieces[4].removesuffix(".json") if len(pieces) > 4 else None


def name_of(store, path):
    """Return what an error must name where a file is damaged."""
    if path.name == "store.json":
        return str(store.path)
    return part_of(store, path) or path.name


def problems_of(store, path, whole):
    """Say what is not as it must be while a file is damaged."""
    error = reading = None
    try:
        reading = told(Store.open(store.path))
    except (StoreDamagedError, UsageError) as caught:
        error = str(caught)
    found = None
    try:
        found = [str(one) for one in verify(Store.open(store.path), deep=True)]
    except MerStoreError as caught:
        found = [str(caught)]
    if ".cache" in path.parts:
        if reading != whole or found:
            yield f"the index did not heal: {error}, {found}"
        return
    named = name_of(store, path)
    if error is None and reading != whole:
        yield "told otherwise, without an error"
    if error is not None and named not in error:
        yield f"the error does not name {named}: {error}"
    if not any(named in one for one in found):
        yield f"not found by verify: {found}"


def harmless(path, data, damaged):
    """Tell whether a JSON file that no digest covers says the same as before."""
    is_covered = path.name not in ("store.json", "spec.json") and path.parent.name != "commits"
    return not is_covered and damaged is not None and damaged.strip() == data.strip()


def wrong_after(store, whole, path, change):
    data = path.read_bytes()
    if not data or harmless(path, data, change(data)):
        return []
    if path.parent.name == "commits" and change(data) is None:
        return forgotten(store, whole, path)
    with Damaged(path, change):
        wrong = list(problems_of(store, path, whole))
    return [f"{path.relative_to(store.path)}: {text}" for text in wrong]


def forgotten(store, whole, path):
    """A part without a record is not committed. A sweep finds it whole, and commits it."""
    data = path.read_bytes()
    path.unlink()
    [(name, (part_ids, clips))] = told(Store.open(store.path)).items()
    assert set(whole[name][0]) - set(part_ids) == {path.stem}
    assert clips.items() < whole[name][1].items()
    assert Store.open(store.path).sweep().part_ids == (path.stem,)
    assert path.read_bytes() == data
    return [] if snapshot(store.path) == whole else [f"{path}: not as before"]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_to_any_file_is_told(store, whole, damage):
    files = files_of(store)
    assert len(files) > 30
    wrong = [text for path in files for text in wrong_after(store, whole, path, DAMAGE[damage])]
    assert wrong == []
    assert snapshot(store.path) == whole


@pytest.mark.faults_long
def test_every_byte_of_every_file(store, whole, record_property):
    n_points, wrong = 0, []
    for path in files_of(store):
        for at in range(path.stat().st_size):
            n_points += 1
            wrong += wrong_after(store, whole, path, flipped(at, 1 << at % 8))
    record_property("faults", ["a flipped bit in every byte", "", n_points, n_points, len(wrong)])
    assert wrong == []


def pull(source, to):
    """Pull from a folder; return what could not be moved, or the error."""
    try:
        with Transfer() as transfer:
            _, moved = transfer.pull(Store.create(to), Address.parse(source.path), Selection())
    except MerStoreError as error:
        return [str(error)]
    return list(moved.problems)


def wrong_after_pull(store, whole, path, change, to):
    """Pull from a store with a damaged file: what comes is right; what does not is named."""
    data = path.read_bytes()
    if not data or ".cache" in path.parts or harmless(path, data, change(data)):
        return []
    part_id = part_of(store, path)
    with Damaged(path, change):
        problems = pull(store, to)
    here = snapshot(to)
    [(name, (part_ids, clips))] = whole.items()
    came = here.get(name, ((), {}))
    where = path.relative_to(store.path)
    wrong = [] if came[1].items() <= clips.items() else [f"{where}: other numbers came"]
    if here != whole and not any(name_of(store, path) in text for text in problems):
        is_forgotten = change(data) is None and path.parent.name == "commits"
        wrong += [] if is_forgotten else [f"{where}: lacks parts, and says only {problems}"]
    if part_id is not None and not set(part_ids) - {part_id} <= set(came[0]):
        wrong.append(f"{where}: did not bring the other part: {problems}")
    return wrong


@pytest.mark.parametrize("damage", ["middle byte", "half gone", "deleted", "zeroed"])
def test_a_damaged_remote_gives_what_is_sound(store, whole, tmp_path, damage):
    files = files_of(store)[:: 1 if LONG else 3]
    wrong = []
    for n, path in enumerate(files):
        wrong += wrong_after_pull(store, whole, path, DAMAGE[damage], tmp_path / str(n))
    assert wrong == []
    assert snapshot(store.path) == whole


@pytest.mark.faults_long
def test_a_remote_with_any_byte_flipped(store, whole, tmp_path, record_property):
    n_points, wrong = 0, []
    for path in files_of(store):
        for at in range(0, path.stat().st_size, 5):
            n_points += 1
            to = Path(tmp_path / str(n_points))
            wrong += wrong_after_pull(store, whole, path, flipped(at, 1 << at % 8), to)
    record_property("faults", ["pulled with a bit flipped", "", n_points, n_points, len(wrong)])
    assert wrong == []
