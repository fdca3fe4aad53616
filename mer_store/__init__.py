"""mer-store: extract each clip once, keep every layer, train from the cache."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from mer_store.store.store import Store

__version__ = "0.1.0"


def open(path: "str | os.PathLike[str]") -> "Store":  # noqa: A001 - read as mer_store.open
    """Open a store. Raises `UsageError` where there is none."""
    from mer_store.store.store import Store

    return Store.open(path)
