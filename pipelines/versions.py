"""Versions of what decided or stored numbers, for the records that keep them."""

from importlib.metadata import version
from platform import python_version


def versions_of(*packages: str) -> dict[str, str]:
    """Return Python's version and those of `packages`, by name."""
    return {"python": python_version()} | {name: version(name) for name in packages}
