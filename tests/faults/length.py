"""Whether all faults are tried, or a sample."""

import os

LONG = bool(os.environ.get("MER_STORE_LONG_FAULTS"))
#: Seconds a test may take.
LIMIT_S = 4 * 3600 if LONG else 300
