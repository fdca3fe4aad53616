"""Killed, no room, a broken disk: at any call of any command nothing is lost and nothing wrong is seen."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from faults.length import LIMIT_S, LONG, fast_folder
from faults.scenarios import CARELESS, SCENARIOS

pytestmark = pytest.mark.timeout(LIMIT_S)
TESTS = Path(__file__).parents[1]
N_SAMPLED = 6


def try_points(names, limit, n_jobs=1):
    """Return scenario -> what came of it."""
    options = ["--limit", str(limit)] if limit else []
    command = [sys.executable, "-m", "faults.points", *names, *options, "--jobs", str(n_jobs)]
    with tempfile.TemporaryDirectory(dir=fast_folder()) as folder:
        done = subprocess.run(
            [*command, "--folder", folder],
            env=os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            check=True,
        )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def results():
    return try_points(SCENARIOS, None if LONG else N_SAMPLED, os.cpu_count() if LONG else 1)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_fault_at_any_call_of(results, name, record_property):
    result = results[name]
    fired, violations = sum(result["fired"].values()), result["violations"]
    row = [name, result["n_calls"], result["n_points"], fired, len(violations)]
    record_property("faults", row)
    assert violations == []
    assert result["n_calls"] > 10
    assert fired > result["n_points"] // 2


def test_a_careless_commit_is_caught():
    [result] = try_points([CARELESS], 12).values()
    assert any("JSON" in violation for violation in result["violations"])
