"""``mer-store worker``: one process with one device that joins a running scheduler."""

import asyncio
import logging
import os
import signal
import socket
import tempfile
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path

from distributed import rpc

from extractors.models.devices import pick_device
from mer_store import __version__
from mer_store.errors import MerStoreError, UsageError
from pipelines.cluster.crew import VERSION_KEY
from pipelines.cluster.leaving import POLL_S, Leaving
from pipelines.cluster.local import shielded_loop, thread_variables
from pipelines.cluster.scheduler import connected
from pipelines.cluster.settings import HurriedNanny, quiet_dask
from pipelines.interrupt import SIGNALS, StopFile, stop_on_signal
from pipelines.machine import gpu_names


def join(
    address: str, device: str, name: str | None, patience_s: int, say: Callable[[str], None]
) -> None:
    """Work for the scheduler at `address` until told to leave, by SIGTERM, Ctrl-C or the scheduler.

    Raises
    ------
    UsageError
        No scheduler answers, its run has another mer-store, or the device is not there.
    MerStoreError
        The scheduler is gone.
    """
    signal.pthread_sigmask(
        signal.SIG_UNBLOCK, SIGNALS
    )  # batch systems may start us with them blocked
    variables = thread_variables() | device_variables(device)
    name = name or f"{socket.gethostname()}-{os.getpid()}"
    with quiet_dask(), tempfile.TemporaryDirectory(prefix="mer-store-") as folder:
        require_same_version(address)
        os.environ.update(variables)  # before the process is made that computes
        stop = StopFile(Path(folder))
        with shielded_loop() as runner, stop_on_signal(stop):
            nanny = partial(_nanny, address, name, folder, patience_s, str(stop.path))
            joined = f"worker {name} has joined {address}, {described(device, variables)}"
            serving = asyncio.run_coroutine_threadsafe(
                _serve(nanny, stop, lambda: say(joined)), runner.loop.asyncio_loop
            )
            closed_for = _patiently(serving)
    if stop.asked:
        say(f"worker {name} left; what it had in hand is committed")
    elif "broken" in closed_for:
        raise MerStoreError(f"the scheduler at {address} is gone")
    else:
        say(f"worker {name} was sent away by the scheduler")


def _patiently(serving: "Future[str]") -> str:
    while True:
        with suppress(TimeoutError):
            return serving.result(POLL_S)


def device_variables(device: str) -> dict[str, str]:
    """Return variables under which a process sees `device` alone.

    ``auto`` is a GPU where there is one: the first, or that of the task's number in a SLURM job.

    Raises
    ------
    UsageError
        There is no such device here.
    """
    picked = pick_device(device)
    if picked.type == "cpu":
        return {"CUDA_VISIBLE_DEVICES": ""}
    gpus = gpu_names("auto")
    task = int(os.environ.get("SLURM_LOCALID", "0")) if ":" not in device else picked.index
    return {"CUDA_VISIBLE_DEVICES": gpus[(task or 0) % len(gpus)]}


def described(device: str, variables: dict[str, str]) -> str:
    """Say on what the worker computes, and what stays idle."""
    gpu = variables["CUDA_VISIBLE_DEVICES"]
    if not gpu:
        return "on the CPU"
    n_gpus = len(gpu_names("auto"))
    more = f" of {n_gpus}; --device cuda:1 takes another" if n_gpus > 1 and device == "auto" else ""
    return f"on GPU {gpu}{more}"


def require_same_version(address: str) -> None:
    """Ask the scheduler what its run has installed.

    Raises
    ------
    UsageError
        Another mer-store than here.
    """
    with connected(address, "") as client:
        version = client.get_metadata(VERSION_KEY, None)
    if version not in (None, __version__):
        raise UsageError(
            f"{address}: its run has mer-store {version}, here is {__version__}: install the same on both "
            "(if that run is over and was killed, start the scheduler anew)"
        )


def _nanny(address: str, name: str, folder: str, patience_s: int, flag: str) -> HurriedNanny:
    """Return what starts the worker's process, and starts it again where it dies."""
    return HurriedNanny(
        address,
        nthreads=1,
        name=name,
        memory_limit=None,
        dashboard=False,
        death_timeout=patience_s,
        silence_logs=logging.CRITICAL,
        local_directory=folder,
        plugins=(Leaving(flag),),
    )


async def _serve(
    make_nanny: Callable[[], HurriedNanny], stop: StopFile, joined: Callable[[], None]
) -> str:
    """Run the worker's process until it is through. Return why it ended."""
    nanny = make_nanny()
    address = nanny.scheduler_addr
    try:
        await nanny
    except (OSError, ValueError, RuntimeError, TimeoutError) as error:
        raise MerStoreError(f"worker {nanny.name} cannot join {address}: {_root(error)}") from error
    joined()
    finished = asyncio.ensure_future(nanny.finished())
    while not finished.done() and not stop.asked:
        await asyncio.wait({finished}, timeout=POLL_S)
    if not finished.done():
        await _until_idle(address, nanny)
        await nanny.close(reason="asked to leave")
    return nanny.closed_for


async def _until_idle(address: str, nanny: HurriedNanny) -> None:
    """Wait until the worker has handed in its part. It takes no other: see `Leaving`."""
    with suppress(OSError, TimeoutError, KeyError):  # it is gone, or is another by now
        async with rpc(address) as scheduler:
            for _ in range(2):  # once is too early where a part was on its way
                await asyncio.sleep(2 * POLL_S)
                while await _n_in_hand(scheduler, nanny.worker_address):
                    await asyncio.sleep(POLL_S)


async def _n_in_hand(scheduler: rpc, worker: str | None) -> int:
    """Return how many parts it works on, or has a report of that the run has not fetched."""
    if not worker:
        return 0
    working = await scheduler.processing(workers=[worker])
    holding = await scheduler.has_what(workers=[worker])
    return len(working.get(worker, ())) + len(holding.get(worker, ()))


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
