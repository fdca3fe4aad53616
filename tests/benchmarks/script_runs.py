"""Scripts of ``benchmarks``, run as people run them."""

import os
import re
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(script, *options, cwd=None, **environment):
    """Run a script; return what it prints."""
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *options],
        capture_output=True, text=True, cwd=cwd, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def figures(text):
    """Return the figures that have a target, by name."""
    found = re.findall(r"^  (.+): ([\d.,e+-]+).* \(target", text, re.MULTILINE)
    return {name: float(value.replace(",", "")) for name, value in found}
