"""Faults at the n-th call of the operating system that a process makes through Python."""

import builtins
import errno
import io
import os
import threading
import time
from collections import Counter
from random import Random

from mer_store.store import writeback

#: Calls that change a disk, and calls that only look at it. Reading by mmap and by buffered files is neither.
WRITES = (
    "write", "writev", "pwrite", "fsync", "fdatasync", "rename", "replace", "link", "symlink", "unlink",
    "remove", "mkdir", "rmdir", "chmod", "fchmod", "chown", "truncate", "ftruncate", "utime",
)  # fmt: skip
READS = ("pread", "preadv", "read", "stat", "lstat", "fstat", "scandir", "listdir")
WRITING_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT

KILLED = 137
#: How a call fails -> the calls it may happen to.
KINDS = {
    "killed before": "write",
    "killed after": "write",
    "ENOSPC": "write",
    "EIO": "write",
    "cut short": "cut",
    "EIO reading": "read",
}


class Injector:
    """Counts the calls of a process, by all its threads, and lets one of them fail.

    Parameters
    ----------
    kind
        One of `KINDS`; None only counts.
    at
        Which call of its group fails, from 1 on.
    """

    def __init__(self, kind=None, at=0):
        self.kind, self.at = kind, at
        self.counts = Counter()
        self.fired = self.held = None
        self._lock = threading.Lock()
        self._real = {name: getattr(os, name) for name in (*WRITES, *READS, "open")}
        self._open = io.open
        self._sync = writeback._sync_file_range

    def install(self):
        """Replace the calls."""
        for name in WRITES:
            setattr(os, name, self._wrapped("write", name, self._real[name]))
        for name in READS:
            setattr(os, name, self._wrapped("read", name, self._real[name]))
        os.open = self._opened
        io.open = builtins.open = self._file
        if self._sync is not None:
            writeback._sync_file_range = self._wrapped("write", "sync_file_range", self._sync)

    def remove(self):
        """Put the real calls back."""
        for name, real in self._real.items():
            setattr(os, name, real)
        io.open = builtins.open = self._open
        writeback._sync_file_range = self._sync

    def call(self, group, name, real, *args, **options):
        """Make one call, unless it is the one that fails."""
        if not self._is_due(group, name):
            return real(*args, **options)
        if self.kind == "killed before":
            os._exit(KILLED)
        if self.kind == "killed after":
            self.held = real(*args, **options)
            os._exit(KILLED)
        if self.kind == "cut short":
            return self._cut(name, *args)
        if name == "sync_file_range":
            return -1  # the system's own call raises nothing
        number = errno.ENOSPC if self.kind == "ENOSPC" else errno.EIO
        raise OSError(number, os.strerror(number), str(args[0]) if args else None)

    def _is_due(self, group, name):
        groups = {group} | ({"cut"} if name in ("write", "writev") else set())
        with self._lock:
            self.counts.update(groups)
            wanted = KINDS.get(self.kind)
            if self.fired is None and wanted in groups and self.counts[wanted] == self.at:
                self.fired = name
                return True
        return False

    def _cut(self, name, descriptor, data):
        """Write only the front of what there is to write, as a disk does that is all but full."""
        data = data if name == "write" else b"".join(data)
        return self._real["write"](descriptor, memoryview(data)[: max(len(data) // 2, 1)])

    def _wrapped(self, group, name, real):
        def call(*args, **options):
            return self.call(group, name, real, *args, **options)

        return call

    def _opened(self, path, flags, *args, **options):
        group = "write" if flags & WRITING_FLAGS else "read"
        return self.call(group, "open", self._real["open"], path, flags, *args, **options)

    def _file(self, file, mode="r", *args, **options):
        if isinstance(file, int):
            return self._open(file, mode, *args, **options)
        if not set(mode) & set("wax+"):
            return self.call("read", "open", self._open, file, mode, *args, **options)
        opened = self.call("write", "open", self._open, file, mode, *args, **options)
        return CountedFile(opened, self)


class CountedFile:
    """A file opened for writing whose calls count."""

    def __init__(self, file, injector):
        self._file, self._injector = file, injector

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __iter__(self):
        return iter(self._file)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def write(self, data):
        # In Python's buffer only: a disk is asked when the buffer is flushed, which counts, too.
        self._file.write(data)
        self.flush()
        return len(data)

    def writelines(self, pieces):
        for piece in pieces:
            self.write(piece)

    def flush(self):
        self._injector.call("write", "flush", self._file.flush)

    def truncate(self, size=None):
        return self._injector.call("write", "ftruncate", self._file.truncate, size)

    def close(self):
        self._file.close()


class Delays(Injector):
    """Lets a process wait for a random moment at some of its calls, so that others come between."""

    def __init__(self, seed, share=0.2, longest_s=0.003):
        super().__init__()
        self._random, self._share, self._longest_s = Random(seed), share, longest_s

    def call(self, group, name, real, *args, **options):
        """Make one call, now or later."""
        with self._lock:
            late = self._random.random() < self._share
            wait_s = self._random.random() * self._longest_s
        if late:
            time.sleep(wait_s)
        return real(*args, **options)
