"""The shards mapped just now: few enough that a process does not run out of file descriptors."""

import mmap
import os
import resource
import weakref
from collections import OrderedDict
from functools import cached_property
from threading import Lock
from typing import Any, Protocol

from numpy.typing import NDArray


class Mapping:
    """A file in memory, closed once nobody holds it."""

    __slots__ = ("__weakref__", "chunks", "descriptor", "memory")

    def __init__(self, memory: mmap.mmap, chunks: NDArray[Any], descriptor: int) -> None:
        self.memory = memory
        self.chunks = chunks
        self.descriptor = descriptor
        """Of the same file, to ask what of it is in memory."""
        weakref.finalize(self, os.close, descriptor)


class HasMapping(Protocol):
    """Something that maps a file, and can map it again."""

    mapping: Mapping | None


class Mappings:
    """Unmaps what was not used for longest. Arrays on a mapping keep it alive until they are gone."""

    def __init__(self) -> None:
        self._owners: OrderedDict[weakref.ref[HasMapping], None] = OrderedDict()
        self._lock = Lock()

    @cached_property
    def limit(self) -> int:
        """How many there may be: they use a quarter of the descriptors this process may open, two each."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return 4096 if soft == resource.RLIM_INFINITY else min(max(soft // 8, 16), 4096)

    def used(self, owner: HasMapping) -> None:
        """Note that `owner` has just been read; drop the mapping that was not used for longest."""
        reference = weakref.ref(owner)
        with self._lock:
            self._owners[reference] = None
            self._owners.move_to_end(reference)
            while len(self._owners) > self.limit:
                oldest = self._owners.popitem(last=False)[0]()
                if oldest is not None:
                    oldest.mapping = None

    def renew_lock(self) -> None:
        """Forget a lock that another thread held while this process was forked."""
        self._lock = Lock()


MAPPINGS = Mappings()
os.register_at_fork(after_in_child=MAPPINGS.renew_lock)
