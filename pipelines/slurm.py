"""What is asked of SLURM for each job: a TOML file, with defaults for all but what a site insists on."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mer_store.errors import UsageError


@dataclass(frozen=True)
class SlurmOptions:
    """Options of one job. A job has one worker for each of its GPUs, or one without any."""

    queue: str = ""
    """Partition; empty is the site's default."""
    account: str = ""
    """Whom it is booked on; empty is the user's default."""
    cores: int = 8
    memory: str = "32G"
    walltime: str = "04:00:00"
    gpus: int = 1
    interface: str = ""
    """Network interface that nodes reach this machine by, such as ``ib0``; empty is that of its name."""
    job_extra_directives: tuple[str, ...] = ()
    """Lines after ``#SBATCH``, such as ``--constraint=a100``."""
    env: tuple[str, ...] = ()
    """Lines of shell before the worker, such as ``module load cuda`` or ``export HF_HOME=/data/hf``."""
    command: str = ""
    """``mer-store`` on the nodes; empty is this machine's."""
    log_directory: str = "slurm-logs"
    patience_s: int = 300
    """How long a worker looks for the scheduler before its job ends."""

    @property
    def n_decoders(self) -> int:
        """Decoding threads beside each model: its share of the job's cores but the model's own."""
        return max(1, min(8, self.cores // max(1, self.gpus) - 1))

    @property
    def directives(self) -> list[str]:
        """All extra lines after ``#SBATCH``, the one that asks for GPUs first unless a line does."""
        asked = any("--gres" in line or "--gpus" in line for line in self.job_extra_directives)
        gpus = [f"--gres=gpu:{self.gpus}"] if self.gpus and not asked else []
        return [*gpus, *self.job_extra_directives]


def read_slurm_options(path: Path | None) -> SlurmOptions:
    """Read the file at `path`; None gives the defaults.

    Raises
    ------
    UsageError
        No such file, no TOML, an unknown key, a value of another type.
    """
    if path is None:
        return SlurmOptions()
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {path}: not TOML: {error}") from error
    known = {item.name: item.default for item in fields(SlurmOptions)}
    return SlurmOptions(**{key: _checked(path, key, values[key], known) for key in values})


def _checked(path: Path, key: str, value: Any, known: dict[str, Any]) -> Any:
    if key not in known:
        raise UsageError(f"--config {path}: {key}: no such option; there are {', '.join(known)}")
    default = known[key]
    if isinstance(default, tuple):
        if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
            raise UsageError(f"--config {path}: {key}: expected a list of lines, got {value!r}")
        return tuple(value)
    if type(value) is not type(default):
        kind = "a whole number" if isinstance(default, int) else "a text"
        raise UsageError(f"--config {path}: {key}: expected {kind}, got {value!r}")
    if isinstance(value, int) and value < (0 if key == "gpus" else 1):
        raise UsageError(
            f"--config {path}: {key}: expected {int(key != 'gpus')} or more, got {value}"
        )
    return value
