"""Asking the kernel to write early, so that a sync at the end finds little left to do."""

import ctypes

#: Begin to write what is dirty and not being written yet; wait for nothing (linux/fs.h).
_SYNC_FILE_RANGE_WRITE = 2

_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)
if _sync_file_range is not None:
    _sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


def start_writeback(descriptor: int, start: int, n_bytes: int) -> None:
    """Have some bytes of a file on their way to the disk. They are durable only once it is synced.

    A hint: where the system has no such call or the file system refuses, nothing happens. What goes wrong on
    the way to the disk is still reported by the sync, which this neither replaces nor consumes.
    """
    if _sync_file_range is not None:
        _sync_file_range(descriptor, start, n_bytes, _SYNC_FILE_RANGE_WRITE)
