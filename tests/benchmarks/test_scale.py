"""The scripts that show scale run from end to end, at a tiny size."""

from pathlib import Path

import pytest
from benchmarks.script_runs import figures, run


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("scale"))
    options = ("--clips", "60", "--width", "16", "--rate", "1000", "--folder", folder)
    found = figures(run("scale.py", "wall", "planner", *options))
    assert list(Path(folder).iterdir()) == [], "it tidies up"
    return found


def test_one_process_and_the_planner(small):
    assert small["clips lost"] == small["clips of a sample with wrong features"] == 0
    assert 0.5 < small["most memory at 100 % / at 50 %"] < 2
    assert [name for name in small if name.startswith("wall time / slowest stage alone")]
    assert small["planning, clip list included"] > 0
    assert small["most memory of planning"] > 0.01


def test_a_worker_that_is_killed_loses_nothing_and_blames_nobody(tmp_path):
    options = "--clips 48 --width 16 --rate 30 --workers 1 --kills 1 --part-clips 8".split()
    found = figures(run("scale.py", "kills", *options, "--folder", str(tmp_path)))
    assert found["workers killed"] == 1
    assert found["clips lost"] == found["clips blamed"] == found["clips stored twice"] == 0
    assert 0 <= found["work done again"] < 100 * 8 / 48 + 1


def test_strong_scaling_counts_every_worker(tmp_path):
    options = "--clips 48 --width 16 --rate 60 --steps 1 2".split()
    found = figures(run("scale.py", "strong", *options, "--folder", str(tmp_path)))
    assert found["clips lost or stored twice"] == 0
    assert found["1 workers: speed / linear"] == 1
    assert 0.2 < found["2 workers: speed / linear"] < 2


def test_nothing_to_do():
    found = figures(run("nothing_to_do.py", "--clips", "50", "--rounds", "1"))
    assert len(found) == 4
    assert all(seconds > 0 for seconds in found.values())
