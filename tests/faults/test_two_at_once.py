"""Two commands at once, each held up at random moments: nothing is lost, nothing twice, nothing half."""

import pytest
from faults.injector import Delays
from faults.length import LIMIT_S, LONG
from faults.points import end_of, start_child
from faults.world import PARTS, id_of, indexed, litter, objects, snapshot, write

from mer_store.remote import trying
from mer_store.remote.address import Address
from mer_store.remote.selection import Selection
from mer_store.remote.transfer import Transfer
from mer_store.store.compact import compact
from mer_store.store.prune import prune
from mer_store.store.store import Store

pytestmark = [
    pytest.mark.usefixtures("disks"),
    pytest.mark.timeout(LIMIT_S),
    pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning"),
    pytest.mark.parametrize("seed", range(100 if LONG else 3)),
]


def at_once(seed, *works):
    """Run each in a process of its own, all at once, with delays; all must end well."""

    def late(n, work):
        def run():
            Delays(f"{seed} {n}").install()
            trying.FIRST_WAIT_S = 0.001
            work()

        return run

    started = [start_child(late(n, work)) for n, work in enumerate(works)]
    ended = [end_of(one) for one in started]
    assert ended == [(0, None)] * len(works)


def push(store, to):
    return lambda: _move(Transfer.push, store, to)


def pull(store, of):
    return lambda: _move(Transfer.pull, store, of)


def _move(direction, store, url):
    with Transfer() as transfer:
        _, moved = direction(transfer, Store.create(store), Address.parse(str(url)), Selection())
    assert not moved.problems, moved.problems


def holds(path, letters):
    """Check that a store holds exactly some of `PARTS`, right, and no litter."""
    [(part_ids, clips)] = snapshot(path).values()
    assert part_ids == tuple(sorted(id_of(letter) for letter in letters))
    assert set(clips) == {clip_id for letter in letters for clip_id in PARTS[letter]}
    Store.open(path).sweep()
    assert litter(path) == []


def test_writers_of_one_part(tmp_path, seed):
    def writer(n):
        return lambda: write(tmp_path, "A", versions={"host": f"n{n}"}) and None

    at_once(seed, writer(1), writer(2))
    holds(tmp_path, "A")


def test_writers_of_several_parts(tmp_path, seed):
    at_once(seed, lambda: write(tmp_path, "A") and None, lambda: write(tmp_path, "B") and None)
    holds(tmp_path, "AB")


def two_stores(tmp_path):
    for name, letters in (("one", "AB"), ("two", "BC")):
        for letter in letters:
            write(tmp_path / name, letter, versions={"host": name})
    return tmp_path / "one", tmp_path / "two"


def test_pushers_into_a_folder(tmp_path, seed):
    one, two = two_stores(tmp_path)
    there = tmp_path / "there"
    at_once(seed, push(one, there), push(two, there))
    holds(there, "ABC")


@pytest.mark.parametrize("protocol", ["gs", "ssh"])
def test_pushers_into_a_remote(tmp_path, seed, protocol):
    one, two = two_stores(tmp_path)
    url = f"{protocol}://{tmp_path / 'there'}"
    at_once(seed, push(one, url), push(two, url))
    assert {part for _, part in objects(url)} == {id_of(letter) for letter in "ABC"}
    assert indexed(url) == {id_of(letter) for letter in "ABC"}


def test_a_pusher_and_a_compactor(tmp_path, seed):
    one, two = two_stores(tmp_path)
    there = tmp_path / "there"
    push(two, there)()

    def compacting():
        made = compact(Store.open(there), part_clips=100)
        assert not any(one.problem for one in made)
        prune(Store.open(there), yes=True, older_than_s=0)

    at_once(seed, push(one, there), compacting)
    push(one, there)()
    [(_, clips)] = snapshot(there).values()
    assert set(clips) == {clip_id for part in PARTS.values() for clip_id in part}


def test_a_pusher_of_a_store_that_is_compacted(tmp_path, seed):
    one, _ = two_stores(tmp_path)
    there = tmp_path / "there"
    at_once(seed, push(one, there), lambda: compact(Store.open(one), part_clips=100) and None)
    [(_, clips)] = snapshot(there).values()
    assert set(clips) == set(PARTS["A"] | PARTS["B"])


def test_a_puller_while_writers_commit(tmp_path, seed):
    here, there = tmp_path / "here", tmp_path / "there"
    write(there, "A")

    def writing():
        write(there, "B")
        write(there, "C")

    at_once(seed, pull(here, there), writing)
    [(part_ids, _)] = snapshot(here).values()
    assert id_of("A") in part_ids
    pull(here, there)()
    holds(here, "ABC")
