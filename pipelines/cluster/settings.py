"""How dask is set up, wherever its workers are."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import dask
from distributed import Nanny

CONNECT_S = 10
#: Time a worker is given to leave. All that matters is committed by then.
LEAVE_S = 1.0
QUIET = (
    "distributed", "distributed.client", "distributed.core", "distributed.nanny", "distributed.worker",
    "tornado.application", "asyncio",
)  # fmt: skip

SETTINGS = {
    # One part is in flight per worker: a worker's death is its own part's, which is split and tried again.
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.worker-saturation": 1.0,
    # A process's memory is mostly the model: dask's own limits would pause it for nothing.
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.target": False,
    # What a scheduler remembers of messages and events, among them ours of progress, grows to these lengths.
    "distributed.admin.log-length": 100,
    "distributed.admin.low-level-log-length": 100,
    # It, and a nanny for each worker, notes seven readings of the machine twice a second, for an hour.
    "distributed.admin.system-monitor.log-length": 100,
    "distributed.comm.timeouts.connect": f"{CONNECT_S}s",
    # Threads are set per worker; dask would set one, and in this process's environment, too.
    "distributed.nanny.pre-spawn-environ": {},
}


@contextmanager
def quiet_dask() -> Iterator[None]:
    """Set dask up, and keep its log to itself: what a person must know is said in their words."""
    hush()
    with dask.config.set(SETTINGS):
        yield


def hush() -> None:
    """Silence dask's own log in this process."""
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)


class HurriedNanny(Nanny):  # type: ignore[misc]
    """A nanny that does not wait for libraries to tidy up, and remembers why it closed."""

    closed_for = ""

    def close_gracefully(self, reason: str = "nanny-close-gracefully") -> None:
        """Go when the worker has gone: it tells why."""
        self.closed_for = self.closed_for or reason
        super().close_gracefully(reason=reason)

    async def close(self, timeout: float = LEAVE_S, reason: str = "nanny-close") -> Any:  # noqa: ARG002
        """Close the worker, by force after `LEAVE_S`."""
        self.closed_for = self.closed_for or reason
        with suppress(TimeoutError):
            return await super().close(timeout=LEAVE_S, reason=reason)
