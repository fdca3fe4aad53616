"""Faults at the system calls themselves, by strace: what Python does not see is hit, too."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from faults.length import LIMIT_S, fast_folder
from faults.points import Sweep, in_child
from faults.world import copy_world

STRACE = shutil.which("strace")
CALLS = (
    "fsync", "fdatasync", "ftruncate", "fchmod", "chmod", "mkdir", "rmdir", "rename", "renameat", "link",
    "linkat", "unlink", "unlinkat", "write", "writev", "sync_file_range",
)  # fmt: skip
FAULTS = ("error=ENOSPC", "error=EIO", "signal=KILL")
TESTS = Path(__file__).parents[1]
ACT = (
    "from pathlib import Path; from faults.scenarios import scenario; "
    "scenario({!r}).act(Path({!r}))"
)

pytestmark = [
    pytest.mark.faults_long,
    pytest.mark.timeout(LIMIT_S),
    pytest.mark.skipif(STRACE is None, reason="strace is not here"),
    pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning"),
]


def traced(name, world, options, log="/dev/null"):
    """Run a command under strace; return its exit code."""
    command = [STRACE, "-f", "-qq", "-o", str(log), *options, sys.executable, "-c"]
    environment = os.environ | {
        "PYTHONPATH": str(TESTS),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(world / "scratch"),
    }
    done = subprocess.run(
        [*command, ACT.format(name, str(world))], env=environment, capture_output=True, check=False
    )
    return done.returncode


def most_calls(name, world, log):
    """Return call -> how often the thread makes it that makes it most: strace counts by thread."""
    assert traced(name, world, ["-e", f"trace={','.join(CALLS)}"], log) == 0
    counts = Counter(re.findall(r"^(\d+) +(\w+)\(", log.read_text(), re.MULTILINE))
    most = Counter()
    for (_, call), n in counts.items():
        most[call] = max(most[call], n)
    return most


@pytest.mark.parametrize("name", ["commit", "push to a folder", "compact", "repair"])
def test_a_fault_at_any_system_call_of(name, record_property):
    base = Path(tempfile.mkdtemp(prefix="faults-", dir=fast_folder()))
    sweep = Sweep(name, base / "sweep")
    sweep.prepare()
    most = most_calls(name, copy_world(base / "sweep" / "template", base / "traced"), base / "log")
    points = [
        (call, n, fault) for call in most for n in range(1, most[call] + 1) for fault in FAULTS
    ]
    fired, violations = 0, []
    for call, n, fault in points:
        world = copy_world(base / "sweep" / "template", base / "world")
        options = ["-e", f"trace={call}", "-e", f"inject={call}:{fault}:when={n}"]
        code = traced(name, world, options)
        fired += code != 0
        failed, problem = in_child(lambda w=world, done=code == 0: sweep._check(w, done=done))
        if failed:
            violations.append(f"{call} {n} {fault}: {problem}")
        shutil.rmtree(world)
    shutil.rmtree(base)
    row = [f"{name}, by strace", sum(most.values()), len(points), fired, len(violations)]
    record_property("faults", row)
    assert violations == []
    assert fired > len(points) // 3
