"""Worker processes on this machine: one each GPU, or a share of the cores."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing import resource_tracker
from typing import Any

import dask
from distributed import Client, Scheduler, SpecCluster
from distributed.utils import LoopRunner

from mer_store.errors import UsageError
from pipelines.cluster.settings import HurriedNanny
from pipelines.interrupt import shielded
from pipelines.machine import gpu_names, n_cpus

THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM",
)  # fmt: skip


#: So long after a worker was lost, dask gives up its place for good. With its 15 s, one that was slow to come
#: back, or died twice within them, was never seen again, until none was left.
GIVE_UP = {"distributed.deploy.lost-worker-timeout": "1000d"}


@contextmanager
def shielded_loop() -> Iterator[LoopRunner]:
    """Run an event loop in a thread that signals do not reach, nor the processes it starts."""
    resource_tracker.ensure_running()  # started later, it would let signals through again
    with shielded():
        runner = LoopRunner()
        runner.start()
    try:
        yield runner
    finally:
        runner.stop()


@contextmanager
def started(n_workers: int, gpus: list[str], *, dashboard: bool = False) -> Iterator[Client]:
    """Start a scheduler and `n_workers` processes, each seeing one of `gpus`."""
    options = {
        "host": "127.0.0.1",
        "nthreads": 1,
        "memory_limit": None,
        "dashboard": False,
        "silence_logs": logging.CRITICAL,
    }
    with (
        dask.config.set(GIVE_UP),
        shielded_loop() as runner,
        SpecCluster(
            scheduler={
                "cls": Scheduler,
                "options": {"host": "127.0.0.1", "port": 0, **dashboard_options(dashboard)},
            },
            workers={
                number: {"cls": HurriedNanny, "options": {**options, "env": environment}}
                for number, environment in enumerate(worker_environments(n_workers, gpus))
            },
            loop=runner.loop,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def dashboard_options(dashboard: bool, host: str = "127.0.0.1") -> dict[str, Any]:
    """Return a scheduler's options of dask's dashboard, on a port that is free.

    Raises
    ------
    UsageError
        It is wanted, and what draws it is not installed.
    """
    if not dashboard:
        return {
            "dashboard": False,
            "dashboard_address": "127.0.0.1:0",
        }  # it serves its health all the same
    if find_spec("bokeh") is None:
        raise UsageError(
            "--dashboard: dask draws it with bokeh, which is not installed: pip install bokeh"
        )
    return {"dashboard": True, "dashboard_address": f"{host}:0"}


def worker_environments(n_workers: int, gpus: list[str]) -> list[dict[str, str]]:
    """Return each local worker's variables: its share of the cores, and one of `gpus` where there are any."""
    threads = thread_variables(n_workers)
    return [
        threads | ({"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {})
        for number in range(n_workers)
    ]


def thread_variables(n_workers: int = 1) -> dict[str, str]:
    """Return the variables of threads where `n_workers` share this machine. What a person set is kept."""
    share = str(max(1, n_cpus() // n_workers))
    return {name: os.environ.get(name, share) for name in THREAD_VARIABLES}


def local_gpus(n_workers: int, device: str) -> tuple[list[str], str]:
    """Return the GPUs to deal out, and what to say where workers must share them or do without some."""
    gpus = gpu_names(device)
    if gpus and n_workers > len(gpus):
        return gpus, (
            f"{n_workers} workers share {len(gpus)} GPU{'s' * (len(gpus) > 1)}: "
            f"each holds a model of its own; --workers {len(gpus)} gives each its own GPU"
        )
    if n_workers < len(gpus):
        return gpus, f"{n_workers} of {len(gpus)} GPUs are used: --workers {len(gpus)} uses all"
    return gpus, ""
