"""mer-store: extract each clip once, keep every layer, train from the cache."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from mer_store.store.store import Store

__version__ = "0.1.0"


def open(path: "str | os.PathLike[str]") -> "Store":  # noqa: A001 - read as mer_store.open
    """Open a store: a folder, or a URL such as ``s3://team/mer2024``. See `mer_store.opening.open_store`."""
    from mer_store.opening import open_store

    return open_store(path)
