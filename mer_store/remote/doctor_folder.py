"""What a folder promises: on a disk, a USB stick, a share of a network."""

import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from mer_store.remote.address import Address
from mer_store.remote.doctor import BrokenPromiseError, Diagnosis, Trial, attempt, expect
from mer_store.store.layout import sync_folder
from mer_store.store.shared import FOLDER_MODE

N_NAMES, N_WRITERS = 40, 2
START_S = 30.0
LINKS, BITS, LONG = "hard links have one winner", "permission bits are kept", "long names are kept"
#: Says that it is ready, waits for a sign, makes as many of the names 0, 1, … as it can, prints how many.
_RACER = """
import os, sys
folder, n_names, own = sys.argv[1], int(sys.argv[2]), sys.argv[3]
os.close(os.open(f"{folder}/ready-{own}", os.O_CREAT | os.O_WRONLY))
while not os.path.exists(f"{folder}/go"):
    pass
n_won = 0
for number in range(n_names):
    try:
        os.close(os.open(f"{folder}/{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        n_won += 1
    except FileExistsError:
        pass
print(n_won)
"""


def examine_folder(address: Address) -> Diagnosis:
    """Try what a folder promises. One that is not there is not made: its parent is tried."""
    place = address.folder.absolute()
    while not place.exists():
        place = place.parent
    name = str(address.folder)
    trials: list[Trial] = []
    first = attempt("a folder can be made here", lambda: _made(place))
    trials.append(first)
    if first.kept:
        with _scratch(place) as folder:
            trials += _trials(folder)
    free = shutil.disk_usage(place).free
    advice = [f"{free / 1e9:.1f} GB are free"]
    if place != address.folder.absolute():
        advice.append(
            f"it is not there yet; {place} was tried, and `mer-store push {name}` makes it"
        )
    return _judge(name, trials, advice)


@contextmanager
def _scratch(place: Path) -> Iterator[Path]:
    folder = Path(mkdtemp(prefix=".doctor-", dir=place))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _made(place: Path) -> str:
    with _scratch(place):
        return str(place)


def _trials(folder: Path) -> list[Trial]:
    return [
        attempt("what was written and synced can be read", lambda: _durable(folder)),
        attempt("a part's folder appears whole", lambda: _renamed(folder)),
        attempt("a name is given once, by two processes at once", lambda: _exclusive(folder)),
        attempt(LINKS, lambda: _linked(folder), needed=False),
        attempt("files can be removed", lambda: _removed(folder), needed=False),
        attempt(BITS, lambda: _bits(folder), needed=False),
        attempt(LONG, lambda: _long(folder)),
    ]


def _durable(folder: Path) -> str:
    data = os.urandom(100_000)
    path = folder / "durable"
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)
    expect(path.read_bytes() == data, True, "the bytes that were written")
    return "fsync works on files and folders"


def _renamed(folder: Path) -> str:
    for name in ("one", "two"):
        (folder / name).mkdir()
        (folder / name / "file").write_text(name)
    place = folder / "place"
    (folder / "one").rename(place)
    expect((place / "file").read_text(), "one", "content")
    try:
        (folder / "two").rename(place)
    except OSError:
        expect((place / "file").read_text(), "one", "content")
        return "and a second one does not replace it"
    raise BrokenPromiseError("a folder took the place of another that was not empty")


def _exclusive(folder: Path) -> str:
    names = folder / "names"
    names.mkdir()
    command = [sys.executable, "-c", _RACER, str(names), str(N_NAMES)]
    racers = [
        subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(N_WRITERS)
    ]
    end = time.monotonic() + START_S
    while len(list(names.glob("ready-*"))) < N_WRITERS and time.monotonic() < end:
        time.sleep(0.005)
    (names / "go").touch()
    won = [int(racer.communicate(timeout=START_S)[0]) for racer in racers]
    expect(sum(won), N_NAMES, f"names won by {N_WRITERS} processes together")
    return f"{N_NAMES} names, each won once"


def _linked(folder: Path) -> str:
    for name in ("first", "second"):
        (folder / name).write_text(name)
    final = folder / "linked"
    os.link(folder / "first", final)
    try:
        os.link(folder / "second", final)
    except FileExistsError:
        expect(final.read_text(), "first", "content")
        return "the second one is refused"
    raise BrokenPromiseError("a second link took the place of the first")


def _removed(folder: Path) -> str:
    path = folder / "removed"
    path.write_text("x")
    path.unlink()
    expect(path.exists(), False, "there")
    return "gone at once"


def _bits(folder: Path) -> str:
    inner, file = folder / "inner", folder / "file"
    inner.mkdir()
    inner.chmod(FOLDER_MODE)
    file.write_text("x")
    file.chmod(0o444)
    expect(oct(stat.S_IMODE(inner.stat().st_mode)), oct(FOLDER_MODE), "mode of a folder")
    expect(oct(stat.S_IMODE(file.stat().st_mode)), oct(0o444), "mode of a file")
    (inner / "below").mkdir()
    expect(inner.stat().st_gid, (inner / "below").stat().st_gid, "group of a folder below")
    return "setgid and sticky, too"


def _long(folder: Path) -> str:
    pair = [folder / ("n" * 199 + letter) for letter in "aA"]
    for number, path in enumerate(pair):
        path.write_text(str(number))
    expect([path.read_text() for path in pair], ["0", "1"], "two names that differ by case")
    return "200 letters, small and capital ones told apart"


def _judge(name: str, trials: list[Trial], advice: list[str]) -> Diagnosis:
    """Say what follows."""
    kept = {trial.promise: trial.kept for trial in trials}
    failed = [trial.promise for trial in trials if trial.needed and not trial.kept]
    if failed:
        verdict = f"not safe: it is not kept that {'; '.join(failed)}"
        if len(trials) == 1:
            verdict = "cannot be written by this user: pull and clone only"
        advice.append("ask the folder's owner, or share by a bucket or `mer-store serve`")
        return Diagnosis(name, tuple(trials), verdict, tuple(advice))
    if not kept[LINKS]:
        advice.append(
            "no hard links here (as on FAT and exFAT): records are renamed into place instead, which is as "
            "whole; two who write one part at the same moment write the same record"
        )
    if not kept[BITS]:
        advice.append(
            "permissions are not kept here: whoever can write can also change and remove what others pushed; "
            "verify after each pull, or share by another file system"
        )
    if kept[LINKS] and kept[BITS]:
        verdict = "safe: push, pull and extract by any number of members at once"
        advice.append(
            "`mer-store init --group GROUP` keeps members from removing each other's parts"
        )
    else:
        verdict = "safe: push and pull"
    return Diagnosis(name, tuple(trials), verdict, tuple(advice))
