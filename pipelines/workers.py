"""Who does the work: this process, processes here, a running cluster, or jobs of SLURM."""

from dataclasses import dataclass

from pipelines.slurm import SlurmOptions


@dataclass(frozen=True)
class Workers:
    """Where the workers of a run are."""

    number: int | None = None
    """Processes on this machine, or jobs of SLURM."""
    scheduler: str | None = None
    """Address of a running dask scheduler."""
    slurm: SlurmOptions | None = None
    device: str = "auto"
    dashboard: bool = False
    """Dask's own pages, where this run starts the scheduler."""

    @property
    def are_here(self) -> bool:
        """Tell whether this process does the work alone."""
        return not (self.number or self.scheduler or self.slurm)

    @property
    def are_local(self) -> bool:
        """Tell whether they are processes that this one starts."""
        return not (self.scheduler or self.slurm)

    @property
    def expected(self) -> int | None:
        """How many there will be; None where they come and go as others like."""
        if self.scheduler:
            return None
        return (self.number or 1) * (max(1, self.slurm.gpus) if self.slurm else 1)
