"""Whether a disk has room for what is to come."""

import shutil
from pathlib import Path

from mer_store.errors import UsageError

#: Left free beside what is to come.
MARGIN_BYTES = 64 * 2**20


def require_room(folder: Path, n_bytes: int) -> None:
    """Refuse to begin what will not fit.

    Raises
    ------
    UsageError
        The message says how much is needed and how much there is.
    """
    free = shutil.disk_usage(folder).free
    if n_bytes and n_bytes + MARGIN_BYTES > free:
        raise UsageError(
            f"{folder}: {n_bytes / 1e9:.2f} GB are to come and {free / 1e9:.2f} GB are free; make room, or "
            f"choose less with --modality, --layers or --clips"
        )
