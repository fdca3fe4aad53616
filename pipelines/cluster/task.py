"""What a dask worker runs: one part, with progress sent through the scheduler."""

import socket
import time
from dataclasses import fields
from typing import Any

import numpy as np
from distributed import Worker, get_worker

from mer_store import __version__
from mer_store.errors import MerStoreError
from pipelines.part import make_part
from pipelines.unfit import UnfitError
from pipelines.work import NUMBERS, PartReport, PartWork, Tally

REPORT_EVERY_S = 0.5


def make_part_on_worker(topic: str, version: str, work: PartWork) -> PartReport:
    """Make a part on a dask worker, reporting under `topic` a few times a second.

    Raises
    ------
    UnfitError
        This worker can do nothing for that run, whose mer-store is of `version`; names the worker.
    """
    worker = get_worker()
    pending = Tally()
    last_s = time.monotonic()

    def report(tally: Tally) -> None:
        nonlocal pending
        pending += tally
        if time.monotonic() - last_s >= REPORT_EVERY_S:
            send()

    def send() -> None:
        nonlocal pending, last_s
        worker.log_event(topic, as_event(pending, worker.address, name_of(worker)))
        pending, last_s = Tally(), time.monotonic()

    try:
        require_version(version)
        return make_part(work, report, noted=True)
    except UnfitError as error:
        text = f"worker {name_of(worker)} on {socket.gethostname()}: {error}"
        raise type(error)(text, error.exit_code, worker.address, error.stream) from error
    except MerStoreError as error:
        raise type(error)(f"worker on {socket.gethostname()}: {error}") from error
    finally:
        send()


def require_version(version: str) -> None:
    """Refuse a run of another mer-store: it may mean another thing by the same words."""
    if version != __version__:
        raise UnfitError(
            f"mer-store {__version__} is installed here, the run has {version}: install the same on both"
        )


def name_of(worker: Worker) -> str:
    """Return the name to show: the address stands where nobody gave one."""
    return str(worker.name).removeprefix("tcp://")


def as_event(tally: Tally, address: str, name: str) -> dict[str, Any]:
    """Return `tally` as plain numbers, and who it is from: dask refuses NumPy's."""
    numbers = {item: _plain(getattr(tally, item)) for item in NUMBERS}
    seconds = {words: _plain(some_s) for words, some_s in tally.by_modality.items()}
    return {"worker": address, "name": name, **numbers, "by_modality": seconds}


def _plain(number: float) -> float:
    return int(number) if isinstance(number, int | np.integer | np.bool_) else float(number)


def from_event(event: dict[str, Any]) -> Tally:
    """Return the tally in an event."""
    return Tally(**{item.name: event[item.name] for item in fields(Tally)})
