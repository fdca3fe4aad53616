"""A worker that is asked to go commits what it has in hand, and takes nothing new."""

import time
from pathlib import Path
from threading import Event, Thread

from distributed import Worker, WorkerPlugin
from distributed.core import Status

from pipelines import interrupt
from pipelines.cluster.settings import hush

#: Under which workers say that they leave.
LEAVING = "mer-store-leaving"
POLL_S = 0.2


class Leaving(WorkerPlugin):  # type: ignore[misc]
    """Watches for a flag that is raised by the process that started the worker."""

    def __init__(self, flag: str) -> None:
        self.flag = flag

    def setup(self, worker: Worker) -> None:
        """Start to watch."""
        hush()
        Thread(target=self._watch, args=(worker,), daemon=True, name="leaving").start()

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002
        """Let the part in hand be committed: the scheduler may be gone."""
        interrupt.leave()

    def _watch(self, worker: Worker) -> None:
        while not Path(self.flag).exists():
            time.sleep(POLL_S)
        told = Event()

        def tell() -> None:
            worker.status = Status.paused  # the scheduler sends it nothing more
            worker.log_event(LEAVING, {"worker": worker.address})
            told.set()

        worker.loop.add_callback(tell)
        told.wait(POLL_S * 10)
        interrupt.leave()
