"""Disturbs a command at every call it makes, one process a point, and says what came of it.

Run as a program it prints JSON: scenario -> counts and violations. ``--limit N`` takes a seeded sample.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

from faults import disks
from faults.injector import KILLED, KINDS, Injector
from faults.scenarios import SCENARIOS, scenario, url
from faults.world import copy_world, indexed, litter, lost, objects, snapshot

from mer_store.errors import MerStoreError
from mer_store.remote import trying
from mer_store.store.store import Store

#: A process that takes longer hangs.
HANGS_S = 60
STORES = ("here", "there")
_OPEN = os.fdopen


@dataclass
class Result:
    """What came of one scenario."""

    n_calls: int = 0
    """Calls that change a disk, in an undisturbed run."""
    n_points: int = 0
    """Points that were tried."""
    fired: Counter = field(default_factory=Counter)
    """Kind of fault -> how often it happened."""
    violations: list = field(default_factory=list)


def start_child(work):
    """Run `work` in a process of its own; what it returns or raises comes back as JSON."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    code = 1
    try:
        os.close(reader)
        signal.alarm(HANGS_S)
        told, code = work(), 0
    except BaseException:  # noqa: BLE001 - told to the parent
        told = traceback.format_exc(limit=-12)
    finally:
        with _OPEN(writer, "wb") as pipe:
            pipe.write(json.dumps(told).encode())
        os._exit(code)


def end_of(started):
    """Wait for a process; return its exit code and what it told."""
    child, reader = started
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, json.loads(told) if told else None


def in_child(work):
    """Run `work` in a process of its own; return its exit code and what it returned or raised."""
    return end_of(start_child(work))


class Sweep:
    """Tries points of one scenario."""

    def __init__(self, name, base):
        self.name, self.scenario = name, scenario(name)
        self._base = Path(base)
        self._template = self._base / "template"
        self._n = 0

    def prepare(self):
        """Make the stores, run the command undisturbed; return how many calls of each group it makes."""
        self._template.mkdir(parents=True)
        _told(in_child(self._prepared))
        self.before = self._state(self._template, self.scenario.damaged)
        calm = copy_world(self._template, self._base / "calm")
        counts = _told(in_child(lambda: self._counted(calm)))
        self.after = self._state(calm)
        return counts

    def _prepared(self):
        tempfile.tempdir = str(self._template)
        self.scenario.prepare(self._template)

    def _state(self, world, damaged=None):
        """Return snapshots of all stores and objects of a world; raises where something is wrong."""
        protocol = self.scenario.remote
        stores = {
            name: snapshot(world / name, damaged) for name in (STORES[:1] if protocol else STORES)
        }
        return stores, objects(url(world, protocol)) if protocol else {}

    def _counted(self, world):
        tempfile.tempdir = str(world / "scratch")
        injector = Injector()
        injector.install()
        self.scenario.act(world)
        injector.remove()
        return injector.counts

    def try_point(self, kind, at):
        """Disturb one call; return the call, None where the command made fewer, and what is wrong."""
        self._n += 1
        world = copy_world(self._template, self._base / f"{os.getpid()}-{self._n}")
        code, told = in_child(lambda: self._disturbed(world, kind, at))
        if code == KILLED:
            told = {"call": kind, "wrong": None, "done": False}
        elif code:
            told = {"call": None, "wrong": f"exit {code}: {told}", "done": False}
        wrong = told["wrong"]
        if wrong is None:
            code, problem = in_child(lambda: self._check(world, done=told["done"]))
            wrong = f"exit {code}: {problem}" if code else None
        if wrong is None:
            shutil.rmtree(world)
        return told["call"], wrong

    def _disturbed(self, world, kind, at):
        """Run the command; return the call that failed, what went wrong, whether it claims to be done."""
        tempfile.tempdir = str(world / "scratch")
        injector = Injector(kind, at)
        injector.install()
        done, wrong = True, None
        try:
            self.scenario.act(world)
        except (OSError, MerStoreError):
            done = False
            wrong = None if injector.fired else traceback.format_exc(limit=-12)
        except Exception:  # noqa: BLE001 - an error that no one should see
            done, wrong = False, traceback.format_exc(limit=-12)
        injector.remove()
        return {"call": injector.fired, "wrong": wrong, "done": done}

    def _check(self, world, *, done):
        """Check what is there after a fault; run the command again; check that all is as if undisturbed."""
        tempfile.tempdir = str(world / "scratch")
        stores, there = self._state(world, self.scenario.damaged)
        for name, now in stores.items():
            _require(
                not lost(self.before[0][name], now), f"lost: {lost(self.before[0][name], now)}"
            )
            _require(not lost(now, self.after[0][name]), "visible, and not meant to be")
        _require(self.before[1].items() <= there.items(), "lost on the remote")
        _require(there.items() <= self.after[1].items(), "visible on the remote, not meant to be")
        if done and not self.scenario.damaged:
            _require((stores, there) == self.after, "done, it says, and is not")
        self.scenario.act(world)
        _require(self._state(world) == self.after, "another result when run again")
        if self.after[1]:
            listed = indexed(url(world, self.scenario.remote))
            _require(
                listed == {part_id for _, part_id in self.after[1]}, "the index object is not right"
            )
        for name in stores:
            if self.after[0][name] is not None:
                swept = Store.open(world / name).sweep()
                _require(not swept.broken, f"broken: {swept.broken}")
                _require(not litter(world / name), f"litter: {litter(world / name)}")
        _require(self._state(world) == self.after, "another result once swept")


def _require(right, text):
    if not right:
        raise AssertionError(text)


def _told(answer):
    code, told = answer
    _require(code == 0, f"exit {code}: {told}")
    return told


def points_of(counts, limit, seed):
    """Return (kind, number of the call) of all points, or a sample of them."""
    every = [
        (kind, at) for kind, group in KINDS.items() for at in range(1, counts.get(group, 0) + 1)
    ]
    if limit is None or limit >= len(every):
        return every
    return sorted(Random(seed).sample(every, limit))


def run(name, base, limit, seed, n_jobs):
    """Try the points of a scenario."""
    result = Result()
    sweep = Sweep(name, base)
    try:
        counts = sweep.prepare()
    except AssertionError as error:
        result.violations.append(f"undisturbed: {error}")
        return result
    result.n_calls = counts["write"]
    points = points_of(counts, limit, f"{seed} {name}")

    def some(first):
        return [(point, sweep.try_point(*point)) for point in points[first::n_jobs]]

    for tried in _parallel(some, n_jobs):
        for (kind, at), (call, wrong) in tried:
            result.n_points += 1
            result.fired[kind] += call is not None
            if wrong is not None:
                result.violations.append(f"{kind} at {at} ({call}): {wrong}")
    return result


def _parallel(work, n_jobs):
    """Run `work(0)` … in processes of their own."""
    if n_jobs == 1:
        return [work(0)]

    def unhurried(first):
        signal.alarm(0)
        return work(first)

    started = [start_child(partial(unhurried, n)) for n in range(n_jobs)]
    return [_told(end_of(one)) for one in started]


def main():
    """Try points and print what came of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=list(SCENARIOS))
    parser.add_argument("--limit", type=int)
    parser.add_argument("--seed", default="faults")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--keep", action="store_true", help="keep the folders of violations")
    chosen = parser.parse_args()
    disks.install()
    trying.FIRST_WAIT_S = 0.001
    told = {}
    for name in chosen.names or SCENARIOS:
        base = tempfile.mkdtemp(prefix="faults-", dir=chosen.folder)
        told[name] = vars(run(name, base, chosen.limit, chosen.seed, chosen.jobs))
        counts = {key: value for key, value in told[name].items() if key != "violations"}
        print(f"{name}: {counts}, violations: {len(told[name]['violations'])}", file=sys.stderr)
        if not chosen.keep:
            with contextlib.suppress(OSError):
                shutil.rmtree(base)
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
