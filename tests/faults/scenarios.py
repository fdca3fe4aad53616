"""What is disturbed: commands that change a store, each with the stores it starts from."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from faults.world import id_of, write

from mer_store.remote.address import Address
from mer_store.remote.selection import Selection
from mer_store.remote.transfer import Transfer
from mer_store.store import commit
from mer_store.store.compact import compact
from mer_store.store.prune import prune
from mer_store.store.repair import repair
from mer_store.store.store import Store
from mer_store.store.verify import verify


@dataclass(frozen=True)
class Scenario:
    """One command."""

    prepare: Callable[[Path], None]
    """Makes the stores in a folder."""
    act: Callable[[Path], None]
    """Runs the command there; raises where it ends with an error."""
    remote: str | None = None
    """Protocol of the remote in ``there``; None where ``there`` is a store on disk, or not used."""
    damaged: str | None = None
    """Letter of a part in ``here`` that is damaged, and may go."""


def url(world, protocol):
    """Return the URL of the remote in a world."""
    return f"{protocol}://{world / 'there'}" if protocol else str(world / "there")


def _transfer(direction, world, protocol, **selection):
    with Transfer() as transfer:
        address = Address.parse(url(world, protocol))
        move = transfer.push if direction == "push" else transfer.pull
        _, moved = move(Store.open(world / "here"), address, Selection(**selection))
    if moved.problems:
        raise OSError(f"not moved: {moved.problems}")


def _stores(here, there, protocol=None):
    def prepare(world):
        for letter in here:
            write(world / "here", letter)
        for letter in there:
            write(world / ("source" if protocol else "there"), letter)
        if there and protocol:
            with Transfer() as transfer:
                address = Address.parse(url(world, protocol))
                transfer.push(Store.open(world / "source"), address, Selection())

    return prepare


def _moving(direction, here, there, protocol=None, **selection):
    return Scenario(
        _stores(here, there, protocol),
        lambda world: _transfer(direction, world, protocol, **selection),
        protocol,
    )


def _prepare_repair(world):
    _stores("AB", "")(world)
    [shard] = (world / "here").rglob(f"{id_of('B')}/18/c/0/0")
    shard.chmod(0o644)
    shard.write_bytes(shard.read_bytes()[:-1])
    findings = verify(Store.open(world / "here"))
    (world / "findings.pickle").write_bytes(pickle.dumps(findings))


def _repair(world):
    # What a broken disk lets `verify` find is another matter: here, repair itself is disturbed.
    findings = pickle.loads((world / "findings.pickle").read_bytes())  # noqa: S301 - our own
    moved = repair(Store.open(world / "here"), findings)
    refused = [one.refused for one in moved if one.refused]
    if refused:
        raise OSError(f"refused: {refused}")


def _compact(world):
    problems = [one.problem for one in compact(Store.open(world / "here"), part_clips=100)]
    if any(problems):
        raise OSError(f"not compacted: {problems}")


def _prepare_prune(world):
    _stores("ABC", "")(world)
    _compact(world)


def _prune(world):
    gone = prune(Store.open(world / "here"), yes=True, older_than_s=0)
    if any(one.refused for one in gone):
        raise OSError(f"refused: {gone}")


SCENARIOS = {
    "commit": Scenario(_stores("A", ""), lambda world: write(world / "here", "B")),
    "first commit": Scenario(lambda world: None, lambda world: write(world / "here", "A")),
    "push to a folder": _moving("push", "AB", "C"),
    "first push to a folder": _moving("push", "A", ""),
    "pull from a folder": _moving("pull", "A", "BC"),
    "push to a bucket": _moving("push", "AB", "C", "gs"),
    "pull from a bucket": _moving("pull", "A", "BC", "gs"),
    "push to a host": _moving("push", "AB", "C", "ssh"),
    "pull one layer": _moving("pull", "A", "BC", "gs", layers="19"),
    "pull some clips": _moving("pull", "A", "BC", clip_ids=frozenset(["b0", "c1", "c2"])),
    "repair": Scenario(_prepare_repair, _repair, damaged="B"),
    "compact": Scenario(_stores("ABC", ""), _compact),
    "prune": Scenario(_prepare_prune, _prune),
}


def _write_carelessly(world):
    """Commit with a record that is written in its place, piece by piece."""

    def put_in_place(final, text):
        if not final.exists():
            with final.open("w") as file:
                file.writelines(text[at : at + 20] for at in range(0, len(text), 20))

    commit.put_file = put_in_place
    write(world / "here", "B")


#: Name of what must be caught, or nothing here means anything.
CARELESS = "careless commit"


def scenario(name):
    """Return the scenario of a name."""
    return SCENARIOS[name] if name != CARELESS else Scenario(_stores("A", ""), _write_carelessly)
