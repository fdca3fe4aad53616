"""Print what a package needs, without the package: an image's layer that its own code does not change."""

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: Path, extras: list[str]) -> list[str]:
    """Return the requirements of `pyproject` and of its `extras`.

    Raises
    ------
    SystemExit
        There is no extra of that name.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    if unknown := set(extras) - set(optional):
        sys.exit(f"{pyproject}: no extra {min(unknown)!r}; there are {', '.join(sorted(optional))}")
    return [*project["dependencies"], *(line for extra in extras for line in optional[extra])]


if __name__ == "__main__":
    names = [name.strip() for name in sys.argv[2].split(",") if name.strip()]
    print(*requirements(Path(sys.argv[1]), names), sep="\n")
