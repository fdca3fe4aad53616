"""The shards mapped just now: few enough that a process does not run out of file descriptors."""

import mmap
import os
import resource
import weakref
from collections.abc import Sequence
from functools import cached_property
from itertools import count
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

#: So many places are asked whether they are in memory before all of them are asked for.
_N_PROBES = 16


class Mapping:
    """A file in memory, closed once nobody holds it."""

    __slots__ = ("__weakref__", "chunks", "descriptor", "memory")

    def __init__(self, memory: mmap.mmap, chunks: NDArray[Any], descriptor: int) -> None:
        self.memory = memory
        self.chunks = chunks
        self.descriptor = descriptor
        """Of the same file, to ask what of it is in memory."""
        weakref.finalize(self, os.close, descriptor)

    def fetch(self, places: NDArray[np.int64], n_bytes: int) -> None:
        """Ask for the runs of so many bytes at `places`, unless they seem to be in memory."""
        if not self.seems_to_hold(places):
            self.will_need(places, n_bytes)

    def seems_to_hold(self, places: Sequence[int] | NDArray[np.int64]) -> bool:
        """Tell whether the bytes at some of `places` are in memory."""
        return self.holds(places[:: max(len(places) // _N_PROBES, 1)])

    def holds(self, places: Sequence[int] | NDArray[np.int64]) -> bool:
        """Tell whether the bytes at all of `places` are in memory, as far as the system can say."""
        if not hasattr(os, "RWF_NOWAIT"):
            return False
        byte = bytearray(1)
        try:
            for place in places:
                if not os.preadv(self.descriptor, (byte,), place, os.RWF_NOWAIT):
                    return False
        except OSError:  # not in memory, or a file system that cannot say
            return False
        return True

    def will_need(self, places: NDArray[np.int64], n_bytes: int) -> None:
        """Ask for the runs of so many bytes at `places`, from front to back, without waiting for them."""
        for place in np.sort(places).tolist():
            begin = place - place % mmap.PAGESIZE
            self.memory.madvise(mmap.MADV_WILLNEED, begin, place + n_bytes - begin)


class HasMapping(Protocol):
    """Something that maps a file, and can map it again."""

    mapping: Mapping | None
    last_used: int
    """What `Mappings.clock` said when it was last read."""


class Mappings:
    """Unmaps what was not used for longest. Arrays on a mapping keep it alive until they are gone."""

    def __init__(self) -> None:
        self.clock = count()
        self._owners: set[weakref.ref[HasMapping]] = set()
        self._lock = Lock()

    @cached_property
    def limit(self) -> int:
        """How many there may be: they use a quarter of the descriptors this process may open, two each."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return 4096 if soft == resource.RLIM_INFINITY else min(max(soft // 8, 16), 4096)

    def opened(self, owner: HasMapping) -> None:
        """Note that `owner` has mapped its file; where they are too many, drop those used longest ago."""
        with self._lock:
            self._owners.add(weakref.ref(owner))
            if len(self._owners) > self.limit:
                self._make_room()

    def _make_room(self) -> None:
        """Drop an eighth more than has to be, so that not every file that comes makes a search."""
        alive = [owner for reference in self._owners if (owner := reference()) is not None]
        alive.sort(key=lambda owner: owner.last_used)
        n_dropped = max(len(alive) - self.limit + self.limit // 8, 0)
        for owner in alive[:n_dropped]:
            owner.mapping = None
        self._owners = set(map(weakref.ref, alive[n_dropped:]))

    def renew_lock(self) -> None:
        """Forget a lock that another thread held while this process was forked."""
        self._lock = Lock()


MAPPINGS = Mappings()
os.register_at_fork(after_in_child=MAPPINGS.renew_lock)
