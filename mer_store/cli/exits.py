"""How the program ends when it is interrupted."""

import os
import sys
import threading
from typing import NoReturn

EXIT_INTERRUPTED = 130


def leave() -> NoReturn:
    """Exit now: who pressed Ctrl-C does not wait for threads that still decode or compute.

    What they do is dropped; what is committed is safe, and what they leave behind is swept by the next run.
    """
    main = threading.main_thread()
    if any(thread is not main and not thread.daemon for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(EXIT_INTERRUPTED)
    sys.exit(EXIT_INTERRUPTED)
