"""Workers as jobs: what is asked, the script word for word, and a run through stand-ins of its commands."""

import logging
import sys
from pathlib import Path

import pytest
from worker_processes import SITECUSTOMIZE, extract, outcomes

from mer_store.errors import UsageError
from pipelines.cluster.slurm_jobs import WorkerJob, cluster_of, submit, worker_lines
from pipelines.slurm import SlurmOptions, read_slurm_options

#: Runs a job's script at once, in a session of its own.
SBATCH = """#!/bin/sh
[ -z "$REFUSE" ] || { echo "sbatch: error: invalid partition specified: gpu" >&2; exit 1; }
number=100
while ! mkdir jobs/$number 2>/dev/null; do number=$((number + 1)); done
cp "$1" jobs/$number/script.sh
setsid bash jobs/$number/script.sh >jobs/$number/log 2>&1 &
echo $! >jobs/$number/pid
echo "Submitted batch job $number"
"""
SCANCEL = """#!/bin/sh
echo cancelled >>jobs/$1/cancelled
kill -TERM -- -$(cat jobs/$1/pid)
"""


def put_command(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Put stand-ins on the path, and stand in an empty folder."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "jobs").mkdir()
    put_command(tmp_path / "bin", "sbatch", SBATCH)
    put_command(tmp_path / "bin", "scancel", SCANCEL)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def script(options: SlurmOptions) -> str:
    with cluster_of(
        options, silence_logs=logging.CRITICAL,
        scheduler_options={"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"},
    ) as cluster:  # fmt: skip
        return cluster.job_script().replace(cluster.scheduler_address, "ADDRESS")


def test_the_script_of_a_job_word_for_word(slurm):
    options = SlurmOptions(
        queue="gpu", account="emotion", cores=16, memory="64G", walltime="12:00:00", gpus=2,
        job_extra_directives=("--constraint=a100",), env=("module load cuda/12",),
        command="/opt/mer-store",
    )  # fmt: skip
    assert script(options) == (
        "#!/usr/bin/env bash\n\n"
        "#SBATCH -J mer-store\n"
        "#SBATCH -e slurm-logs/mer-store-%J.err\n"
        "#SBATCH -o slurm-logs/mer-store-%J.out\n"
        "#SBATCH -p gpu\n"
        "#SBATCH -A emotion\n"
        "#SBATCH -n 1\n"
        "#SBATCH --cpus-per-task=16\n"
        "#SBATCH --mem=64G\n"
        "#SBATCH -t 12:00:00\n"
        "#SBATCH --gres=gpu:2\n"
        "#SBATCH --constraint=a100\n"
        "export OMP_NUM_THREADS=${OMP_NUM_THREADS:-8}\n"
        "export MKL_NUM_THREADS=${MKL_NUM_THREADS:-8}\n"
        "export OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-8}\n"
        "export OPENCV_FOR_THREADS_NUM=${OPENCV_FOR_THREADS_NUM:-8}\n"
        "module load cuda/12\n"
        "trap '' TERM INT\n"
        "/opt/mer-store worker ADDRESS --patience 300 --device cuda:0 --name dummy-name-0 &\n"
        "/opt/mer-store worker ADDRESS --patience 300 --device cuda:1 --name dummy-name-1 &\n"
        "wait\n"
    )


def test_the_defaults_ask_for_one_gpu_and_no_queue(slurm):
    text = script(SlurmOptions())
    assert "#SBATCH --gres=gpu:1\n" in text
    assert "#SBATCH -p" not in text
    assert "#SBATCH -A" not in text
    here = Path(sys.executable).with_name("mer-store")
    assert text.endswith(
        f"exec {here} worker ADDRESS --patience 300 --device cuda --name dummy-name\n"
    )
    assert "--device cpu" in worker_lines("ADDRESS", "name", SlurmOptions(gpus=0))


def test_gpus_are_asked_for_once(slurm):
    options = SlurmOptions(gpus=4, job_extra_directives=("--gpus-per-node=a100:4",))
    assert options.directives == ["--gpus-per-node=a100:4"]
    assert SlurmOptions(gpus=0).directives == []
    assert SlurmOptions(cores=16, gpus=4).n_decoders == 3


def test_a_file_of_options(tmp_path):
    path = tmp_path / "slurm.toml"
    path.write_text('queue = "gpu"\ngpus = 0\nenv = ["module load x"]\n')
    assert read_slurm_options(path) == SlurmOptions(queue="gpu", gpus=0, env=("module load x",))
    assert read_slurm_options(None) == SlurmOptions()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('partition = "gpu"', "partition: no such option; there are queue, account,"),
        ("cores = 'eight'", "cores: expected a whole number, got 'eight'"),
        ("cores = true", "cores: expected a whole number, got True"),
        ("cores = 0", "cores: expected 1 or more, got 0"),
        ("gpus = -1", "gpus: expected 0 or more, got -1"),
        ("walltime = 4", "walltime: expected a text, got 4"),
        ("env = 'module load x'", "env: expected a list of lines, got 'module load x'"),
        ("queue =", "not TOML"),
        (None, "No such file"),
    ],
)
def test_a_file_that_says_something_else(tmp_path, text, message):
    path = tmp_path / "slurm.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=message) as raised:
        read_slurm_options(path)
    assert str(path) in str(raised.value)


def test_where_slurm_is_missing_or_refuses_it_is_said(slurm, monkeypatch):
    with pytest.raises(UsageError, match=r"interface 'ib7': expected one of .*lo"):
        cluster_of(SlurmOptions(interface="ib7"))
    monkeypatch.setenv("REFUSE", "yes")
    with (
        cluster_of(
            SlurmOptions(interface="lo"), silence_logs=logging.CRITICAL,
            scheduler_options={"dashboard_address": "127.0.0.1:0"},
        ) as cluster,
        pytest.raises(UsageError, match=r"sbatch refuses: .*invalid partition specified: gpu"),
    ):  # fmt: skip
        submit(cluster, 1)
    (slurm / "bin" / "sbatch").unlink()
    with pytest.raises(UsageError, match="no `sbatch` on this machine"):
        cluster_of(SlurmOptions())
    assert WorkerJob.cancel_command == "scancel"


def test_a_run_of_two_jobs(bench, slurm):
    bench.add(**{f"c{number}": "speech" for number in range(60)})
    bench.prepare()
    (slurm / "sitecustomize.py").write_text(SITECUSTOMIZE)
    python = f"{sys.executable} -c 'from mer_store.cli import main; main()'"
    (slurm / "slurm.toml").write_text(
        f'gpus = 0\ncores = 1\nmemory = "1G"\ninterface = "lo"\ncommand = "{python}"\n'
        'env = ["export SLOW=0.02"]\n'
    )
    options = "--cluster slurm --config slurm.toml --workers 2 --part-clips 10".split()
    with extract(slurm, *options) as process:
        _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert "SLURM has 2 jobs of ours" in err
    assert "60 stored" in err
    found = outcomes(slurm / "store")
    assert len(found) == 60
    assert {status for status, _ in found.values()} == {"ok"}
    jobs = sorted((slurm / "jobs").glob("1*/script.sh"))
    assert len(jobs) == 2
    assert all((job.parent / "cancelled").exists() for job in jobs), "none is left in the queue"
