"""These tests run in an environment of their own (``make test-pyfeat``); elsewhere they are skipped."""

from importlib.util import find_spec
from pathlib import Path

import pytest

INSTALLED = find_spec("feat") is not None
if INSTALLED:
    from pyfeat import stand_ins  # noqa: F401 - before torchvision is imported


def pytest_collection_modifyitems(items):
    """Mark every test of this folder, and skip it where py-feat is not installed."""
    for item in items:
        if Path(item.path).is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.pyfeat)
            if not INSTALLED:
                item.add_marker(
                    pytest.mark.skip(reason="py-feat is not installed: make test-pyfeat")
                )
