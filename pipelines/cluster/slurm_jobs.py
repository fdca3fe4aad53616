"""Workers as jobs of SLURM. The scheduler is in this process; each job joins it."""

import logging
import shlex
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from dask_jobqueue.slurm import SLURMCluster, SLURMJob
from distributed import Client
from distributed.deploy.spec import ProcessInterface

from mer_store.errors import UsageError
from pipelines.cluster.local import THREAD_VARIABLES, dashboard_options, shielded_loop
from pipelines.slurm import SlurmOptions

JOB_NAME = "mer-store"
SUBMIT_S = 120.0


class WorkerJob(SLURMJob):  # type: ignore[misc]
    """A job whose workers are ``mer-store worker``: they commit what is in hand when SLURM ends the job."""

    def __init__(
        self,
        scheduler: Any = None,
        name: Any = None,
        *,
        options: SlurmOptions,
        answers: "SimpleQueue[str | BaseException]",
        **more: Any,
    ) -> None:
        super().__init__(scheduler, name, **more)
        self._answers = answers
        self._command_template = worker_lines(str(scheduler), str(name), options)

    async def start(self) -> None:
        """Submit the job, and pass on what SLURM answers."""
        try:
            await super().start()
        except (RuntimeError, ValueError, OSError) as error:
            await ProcessInterface.start(self)  # so that the cluster can be closed
            self._answers.put(error)
        else:
            self._answers.put(str(self.job_id))


def worker_lines(address: str, name: str, options: SlurmOptions) -> str:
    """Return the lines of a job's script that run its workers."""
    here = Path(sys.executable).with_name("mer-store")
    command = options.command or shlex.quote(str(here))
    join = f"{command} worker {address} --patience {options.patience_s}"
    if options.gpus <= 1:
        device = "cuda" if options.gpus else "cpu"
        return f"exec {join} --device {device} --name {name}"
    workers = [f"{join} --device cuda:{gpu} --name {name}-{gpu} &" for gpu in range(options.gpus)]
    # SLURM's signal is for the workers; the shell stays until they have committed.
    return "\n".join(["trap '' TERM INT", *workers, "wait"])


def cluster_of(options: SlurmOptions, **more: Any) -> SLURMCluster:
    """Return a cluster without jobs yet.

    Raises
    ------
    UsageError
        SLURM is not here, or there is no such network interface.
    """
    if shutil.which(WorkerJob.submit_command) is None:
        raise UsageError(
            "--cluster slurm: no `sbatch` on this machine; run it where jobs are submitted (a login node)"
        )
    interfaces = [name for _, name in socket.if_nameindex()]
    if options.interface and options.interface not in interfaces:
        raise UsageError(
            f"interface {options.interface!r}: expected one of {', '.join(interfaces)}; "
            "job scripts use the same name on the nodes"
        )
    share = max(1, options.cores // max(1, options.gpus))
    threads = [f"export {name}=${{{name}:-{share}}}" for name in THREAD_VARIABLES]
    return SLURMCluster(
        job_cls=WorkerJob,
        options=options,
        answers=SimpleQueue(),
        queue=options.queue or None,
        account=options.account or None,
        cores=options.cores,
        memory=options.memory,
        job_mem=options.memory,  # as written: it would be counted in other units
        walltime=options.walltime,
        processes=1,
        interface=options.interface or None,
        job_extra_directives=options.directives,
        job_script_prologue=[*threads, *options.env],
        log_directory=options.log_directory,
        job_name=JOB_NAME,
        name=JOB_NAME,
        **more,
    )


@contextmanager
def submitted(
    options: SlurmOptions, n_jobs: int, say: Callable[[str], None], *, dashboard: bool = False
) -> Iterator[Client]:
    """Submit `n_jobs` and give the client of their scheduler; cancel them in the end.

    Raises
    ------
    UsageError
        SLURM is not here, or refuses the jobs.
    """
    with (
        shielded_loop() as runner,
        cluster_of(
            options,
            loop=runner.loop,
            silence_logs=logging.CRITICAL,
            scheduler_options=dashboard_options(dashboard, ""),
        ) as cluster,
    ):
        numbers = ", ".join(submit(cluster, n_jobs))
        say(
            f"SLURM has {n_jobs} jobs of ours: {numbers}; their logs are in {options.log_directory}/"
        )
        with Client(cluster, set_as_default=False) as client:
            yield client


def submit(cluster: SLURMCluster, n_jobs: int, within_s: float = SUBMIT_S) -> list[str]:
    """Submit jobs, and say it here and now where SLURM refuses one: dask would only log it.

    Returns their numbers.
    """
    answers: SimpleQueue[str | BaseException] = cluster.new_spec["options"]["answers"]
    cluster.scale(jobs=n_jobs)
    numbers = []
    for _ in range(n_jobs):
        try:
            answer = answers.get(timeout=within_s)
        except Empty:
            raise UsageError(
                f"--cluster slurm: sbatch has not answered for {within_s:.0f} s"
            ) from None
        if isinstance(answer, BaseException):
            raise UsageError(f"--cluster slurm: sbatch refuses: {refusal(answer)}") from answer
        numbers.append(answer)
    return numbers


def refusal(error: BaseException) -> str:
    """Return what sbatch wrote on stderr, in one line."""
    text = str(error).rpartition("stderr:")[2]
    return " ".join(text.split()) or type(error).__name__
