"""Opening a store wherever it is: a folder, or a URL that is read in place."""

import os

from mer_store.remote.address import is_url
from mer_store.store.store import Store


def open_store(path: str | os.PathLike[str]) -> Store:
    """Open a store.

    Parameters
    ----------
    path
        A folder, or a URL such as ``s3://team/mer2024``: what is read of it is kept in a cache of bounded
        size (``MER_STORE_CACHE``, by default in ``~/.cache/mer-store``; ``MER_STORE_CACHE_BYTES``, 20e9).

    Raises
    ------
    UsageError
        There is no store, or it may not be read.
    TransferError
        A remote cannot be reached.
    """
    if is_url(os.fspath(path)):
        from mer_store.remote.remote_store import RemoteStore

        return RemoteStore.open_url(os.fspath(path))
    return Store.open(path)
