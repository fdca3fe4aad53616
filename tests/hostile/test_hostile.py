"""Hostile stores: every one is refused with a clear error, and nothing else happens."""

import json
import os
import subprocess
import sys
from pathlib import Path

import hostile.cases_arrays
import hostile.cases_files
import hostile.cases_foreign
import hostile.cases_index
import hostile.cases_json  # noqa: F401 - fills CASES
import pytest
from hostile.scene import CASES, HARMLESS, OPEN, READ, VERIFY, Scene, make_sound_store

TESTS = Path(__file__).parents[1]
N_RUNNERS = 2
MIN_CASES = 60
SOUND = "sound"


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """A folder with a sound store, every hostile one, and a guard: what must stay as it is."""
    root = tmp_path_factory.mktemp("hostile")
    guard = root / "guard"
    guard.mkdir()
    (guard / "old").write_text("nobody's to remove")
    os.utime(guard / "old", (0, 0))
    (root / "stores").mkdir()
    make_sound_store(root / "stores" / SOUND)
    for name, case in CASES.items():
        case.tamper(Scene(root / "stores" / SOUND, root / "stores" / file_name(name), guard))
    return root


def file_name(case_name):
    return "".join(c if c.isalnum() else "_" for c in case_name)


def listing(root):
    """Every entry outside the stores themselves, with type, size and time."""
    found = {}
    for folder, folders, names in os.walk(root):
        if Path(folder).parent.name == "stores":
            folders.clear()
            continue
        for name in [*folders, *names]:
            status = os.lstat(os.path.join(folder, name))  # noqa: PTH118 - names may be no text
            is_folder = name in folders
            in_stores = Path(folder).name == "stores"
            facts = () if is_folder and in_stores else (status.st_size, status.st_mtime_ns)
            found[os.path.join(folder, name)] = (status.st_mode, *facts)  # noqa: PTH118
    return found


@pytest.fixture(scope="module")
def outcomes(ground):
    """What became of each store, and of what lies around them."""
    before = listing(ground)
    names = [SOUND, *CASES]
    environment = os.environ | {
        "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}",
        "HOME": str(ground / "guard"),
        "TMPDIR": str(ground / "guard"),
        "MALLOC_ARENA_MAX": "2",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "hostile.attempt"]
    running = []
    for n in range(N_RUNNERS):
        runner = subprocess.Popen(
            command, env=environment, cwd=ground / "guard", text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        running.append((names[n::N_RUNNERS], runner))
    found = {}
    for chosen, runner in running:
        folders = "".join(f"{ground / 'stores' / file_name(name)}\n" for name in chosen)
        runner.stdin.write(folders)
        runner.stdin.close()
        runner.stdin = None
    for chosen, runner in running:
        out, err = runner.communicate(timeout=250)
        assert runner.returncode == 0, err
        found |= zip(chosen, map(json.loads, out.splitlines()), strict=True)
    return found, before, listing(ground)


def test_there_are_many():
    assert len(CASES) >= MIN_CASES
    assert len({file_name(name) for name in CASES}) == len(CASES)


def test_the_sound_store_is_sound(outcomes):
    found = outcomes[0][SOUND]
    assert found["verify"] == {"value": []}
    assert {"value"} == {key for step in found["read"].values() for key in step}
    assert len(found["read"]) == 7
    assert len(found["write"]["value"]) == 32
    assert (found["status"]["value"]["code"], found["verify command"]["value"]["code"]) == (0, 0)


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused(outcomes, name):
    found, sound = outcomes[0][name], outcomes[0][SOUND]
    by = CASES[name].refused_by
    assert "hang" not in found, found["hang"]
    steps = {
        **found["read"],
        **{step: found[step] for step in found if step not in ("read", "peak_kib")},
    }
    raw = {step: outcome["raw"] for step, outcome in steps.items() if "raw" in outcome}
    assert not raw, "\n".join(f"{step}: {text}" for step, text in raw.items())
    refused = {step for step, outcome in found["read"].items() if "refused" in outcome}
    assert ("refused" in found["open"]) == (by == OPEN)
    assert bool(refused) == (by == READ)
    if by != HARMLESS:
        assert found["verify"].get("refused") or found["verify"].get("value")
        assert found["verify command"]["value"]["code"] in (1, 2)
    else:
        assert found["verify"] == {"value": []}
    assert found["status"]["value"]["code"] in (0, 1, 2)
    if CASES[name].keeps_values:
        same = {step: outcome for step, outcome in found["read"].items() if step not in refused}
        assert same == {step: sound["read"][step] for step in same}


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].refused_by in (OPEN, READ)])
def test_the_refusal_says_where(outcomes, name):
    found = outcomes[0][name]
    texts = [o["refused"] for o in [found["open"], *found["read"].values()] if "refused" in o]
    assert all(file_name(name) in text or "part" in text for text in texts)
    assert all(len(text) < 3000 for text in texts)


def test_commands_print_nothing_that_acts_on_a_terminal(outcomes):
    for name, found in outcomes[0].items():
        for step in ("status", "verify command"):
            text = found[step]["value"]["text"]
            assert all(c.isprintable() or c == "\n" for c in text), name
            assert "Traceback" not in text


def test_nothing_is_written_outside_and_no_code_runs(outcomes, ground):
    _, before, after = outcomes
    assert not (ground / "guard" / "marker").exists()
    assert {
        path for path in after.keys() | before.keys() if after.get(path) != before.get(path)
    } == set()


def test_memory_is_bounded(outcomes):
    """The limit of the process would have shown as a MemoryError; what is really used is far below it."""
    assert max(found["peak_kib"] for found in outcomes[0].values()) < 512 << 10


def test_each_way_of_refusing_is_tried():
    assert {case.refused_by for case in CASES.values()} == {OPEN, READ, VERIFY, HARMLESS}
