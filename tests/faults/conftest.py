"""A sample of faults; all of them where ``MER_STORE_LONG_FAULTS`` is set (``make test-faults``)."""

import pytest
from faults.disks import PROTOCOLS
from faults.length import LONG
from fsspec.registry import _registry

TITLE = "faults: calls, points tried and fired, violations"


def pytest_collection_modifyitems(items):
    """Skip what takes minutes."""
    skip = pytest.mark.skip(reason="takes minutes; run `make test-faults`")
    for item in items:
        if not LONG and item.get_closest_marker("faults_long"):
            item.add_marker(skip)


@pytest.fixture
def disks(monkeypatch):
    """Let ``gs://`` and ``ssh://`` lead to folders, as `faults.disks` says."""
    for protocol, kind in PROTOCOLS.items():
        monkeypatch.setitem(_registry, protocol, kind)


def pytest_terminal_summary(terminalreporter):
    """Print the counts that the tests noted."""
    reports = [
        report for which in ("passed", "failed") for report in terminalreporter.stats.get(which, [])
    ]
    rows = [row for report in reports for name, row in report.user_properties if name == "faults"]
    if LONG and rows:
        terminalreporter.section(TITLE)
        for what, *counts in [["", "calls", "points", "fired", "violations"], *rows]:
            terminalreporter.write_line(
                f"{what:42}" + "".join(f"{count!s:>11}" for count in counts)
            )
