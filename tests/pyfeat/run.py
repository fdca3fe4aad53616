"""Build ``.venv-pyfeat`` once and run the tests of the py-feat face recipe in it: ``make test-pyfeat``.

An environment of its own, since beside a CPU build of torch the torchvision that py-feat needs breaks
other imports. ``MER_STORE_PYFEAT_VENV`` names another folder for it. Arguments go to pytest.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("MER_STORE_PYFEAT_VENV", ROOT / ".venv-pyfeat"))
PYTHON = FOLDER / "bin" / "python"
READY = FOLDER / ".ready"

#: torchvision and torchcodec are named, or pip replaces torch to satisfy py-feat.
PINNED = ("torch==2.13.0", "torchvision==0.28.0", "torchcodec==0.13.0")
#: Without their dependencies: xgboost's is 469 MB of NCCL that nothing here calls.
ALONE = ("py-feat==2.1.5", "xgboost==3.2.0")
#: What py-feat imports besides, as its metadata says.
BESIDES = (
    "pandas", "seaborn", "numexpr", "scipy", "scikit-learn", "timm", "scikit-image", "joblib",
    "easing_functions", "celluloid", "skops", "plotly",
)  # fmt: skip


def install(*words: str) -> None:
    """Call the environment's pip under our constraints."""
    command = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, "-c", ROOT / "constraints.txt", *words], check=True, cwd=ROOT)


def build() -> None:
    """Build the environment unless it is there and of these versions."""
    recipe = " ".join((*PINNED, *ALONE, *BESIDES))
    if READY.is_file() and READY.read_text() == recipe:
        return
    venv.create(FOLDER, with_pip=True)
    install(*PINNED, "-e", ".[dev]")
    install(*BESIDES)
    install("--no-deps", *ALONE)
    READY.write_text(recipe)


def main() -> int:
    """Build, test, give pytest's exit code."""
    build()
    arguments = sys.argv[1:] or ["-q", "-p", "no:xdist"]
    command = [PYTHON, "-m", "pytest", "tests/pyfeat", "-m", "pyfeat", *arguments]
    return subprocess.run(command, check=False, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
