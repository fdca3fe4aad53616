"""Whether all faults are tried, or a sample, and where."""

import os
import tempfile
from pathlib import Path

LONG = bool(os.environ.get("MER_STORE_LONG_FAULTS"))
#: Seconds a test may take.
LIMIT_S = 4 * 3600 if LONG else 300


def fast_folder():
    """Return a folder in memory, where there is one: thousands of small files are made and removed."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
