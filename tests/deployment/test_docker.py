"""The images' files by hadolint's rules, and what it does not look at: the context, users, signals."""

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from deployment.dockerfile import chain, is_sent, read_stages

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
STAGES = read_stages(DOCKERFILE.read_text())
TARGETS = ("cpu", "cuda")
TAG = re.compile(r"[\w./-]+:\d+\.\d+\.\d+[\w.-]*")
SECRET = re.compile(r"SECRET|TOKEN|PASSWORD|PASSWD|API_?KEY|CREDENTIAL", re.IGNORECASE)


def test_hadolint_finds_nothing():
    hadolint = Path(sys.executable).with_name("hadolint")
    result = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


def test_base_images_are_pinned_to_a_patch_release():
    bases = {stage.base for stage in STAGES.values()} - set(STAGES)
    assert bases
    assert all(TAG.fullmatch(base) for base in bases)
    assert not any("latest" in base for base in bases)


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_mer_store_as_nobody_special(target):
    stages = chain(STAGES, target)
    last = stages[-1].instructions[-1]
    assert (last.name, last.words) == ("USER", "1000:1000")
    instructions = [one for stage in stages for one in stage.instructions]
    final = {one.name: one for one in instructions}
    assert final["ENTRYPOINT"].words == '["mer-store"]'
    assert final["STOPSIGNAL"].words == "SIGINT"
    assert all(one.is_exec_form for one in instructions if one.name in ("ENTRYPOINT", "CMD"))
    path = next(words for words in stages[0].words("ENV") if words.startswith("PATH="))
    assert path.startswith("PATH=/opt/mer-store/bin:")


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_takes_its_own_environment_and_no_build_tools(target):
    (copied,) = STAGES[target].words("COPY")
    assert copied == f"--from={target}-environment /opt/mer-store /opt/mer-store"
    assert not any("apt-get" in words for words in STAGES[target].words("RUN"))
    packages = re.findall(
        r"--no-install-recommends ([\w.\- ]+?) &&", " ".join(STAGES["runtime"].words("RUN"))
    )
    assert packages == ["libgl1 libglib2.0-0"]


def test_apt_leaves_nothing_behind():
    runs = [words for stage in STAGES.values() for words in stage.words("RUN")]
    with_apt = [words for words in runs if "apt-get install" in words]
    assert len(with_apt) == 1
    assert all("apt-get update" in words for words in with_apt)
    assert all("--no-install-recommends" in words for words in with_apt)
    assert all("rm -rf /var/lib/apt/lists/*" in words for words in with_apt)


def test_packages_are_installed_under_the_constraints_and_before_our_own_code():
    for stage in (STAGES["cpu-environment"], STAGES["cuda-environment"]):
        (run,) = stage.words("RUN")
        assert "-c constraints.txt" in run
        assert "pip check" in run
    sources = {"mer_store", "extractors", "pipelines"}
    for name in ("environment", "cpu-environment", "cuda-environment", "runtime"):
        copied = " ".join(STAGES[name].words("COPY")).split()
        assert not sources & set(copied), name
    assert all("--no-deps" in STAGES[target].words("RUN")[-1] for target in TARGETS)


def test_no_secret_is_named():
    named = [
        words for stage in STAGES.values() for kind in ("ENV", "ARG") for words in stage.words(kind)
    ]
    assert named
    assert not any(SECRET.search(words) for words in named)


def test_the_context_is_what_is_copied_and_no_more():
    rules = (ROOT / ".dockerignore").read_text().split()
    copied = {
        word.removeprefix("./")
        for stage in STAGES.values()
        for words in stage.words("COPY")
        if "--from" not in words
        for word in words.split()[:-1]
        if not word.startswith("--")
    }
    assert "mer_store" in copied
    for path in copied:
        assert (ROOT / path).exists(), path
        assert is_sent(path, rules), path
    assert is_sent("mer_store/cli/main.py", rules)
    for path in (
        ".git/config", ".venv/bin/python", "demo/clips.csv", "store/store.json", "docker/.env",
        "runs/a/report.html", "mer_store/cli/__pycache__/main.pyc", "mer_store/__pycache__/a.pyc",
    ):  # fmt: skip
        assert not is_sent(path, rules), path


def requirements(*words):
    script = ROOT / "docker" / "requirements.py"
    return subprocess.run(
        [sys.executable, script, ROOT / "pyproject.toml", *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_requirements_are_those_of_the_package_and_of_the_extras():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = next(words for words in STAGES["environment"].words("ARG"))
    assert extras == "EXTRAS=s3,gs,ssh"
    lines = requirements("s3,gs,ssh").stdout.splitlines()
    optional = project["optional-dependencies"]
    assert lines == [*project["dependencies"], *optional["s3"], *optional["gs"], *optional["ssh"]]
    assert requirements("").stdout.splitlines() == project["dependencies"]
    unknown = requirements("s3,azure")
    assert unknown.returncode == 1
    assert "no extra 'azure'; there are" in unknown.stderr


FAKE_WORKER = """#!/bin/sh
echo "$CUDA_VISIBLE_DEVICES|$OMP_NUM_THREADS|$*" >> "$CALLS"
[ "$STAY" ] || exit 3
trap 'echo ended >> "$CALLS"; exit 0' TERM
while :; do sleep 0.05; done
"""


@pytest.fixture
def workers(tmp_path):
    """Return a function that runs workers.sh with a `mer-store` that notes how it was called."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in {"mer-store": FAKE_WORKER, "nproc": "#!/bin/sh\necho 16\n"}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    calls = tmp_path / "calls"

    def run(*words, n_calls=0, **variables):
        environment = {
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "CALLS": str(calls), **variables,
        }  # fmt: skip
        command = [shutil.which("bash"), ROOT / "docker" / "workers.sh", *words]
        with subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, text=True
        ) as process:
            while n_calls and len(lines()) < n_calls and process.poll() is None:
                time.sleep(0.01)
            if n_calls:
                process.terminate()
            _, errors = process.communicate(timeout=30)
        return process.returncode, errors

    def lines():
        return calls.read_text().splitlines() if calls.exists() else []

    run.lines = lines
    return run


def test_workers_are_one_for_each_gpu(workers):
    code, _ = workers("tcp://head:8786", n_calls=2, STAY="yes", CUDA_VISIBLE_DEVICES="2,5")
    assert code == 130
    how = "worker tcp://head:8786 --patience 120"
    assert sorted(workers.lines()) == [f"2|8|{how}", f"5|8|{how}", "ended", "ended"]


def test_workers_without_a_gpu_are_as_many_as_asked(workers):
    workers("tcp://head:8786", n_calls=4, STAY="yes", CUDA_VISIBLE_DEVICES="", WORKERS="4")
    assert len([line for line in workers.lines() if line.startswith("|4|worker")]) == 4


def test_threads_that_are_set_are_left(workers):
    workers("tcp://h:1", n_calls=1, STAY="yes", CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="3")
    assert workers.lines()[0].startswith("|3|")


def test_a_worker_that_cannot_start_ends_the_script_with_its_code(workers):
    assert workers("tcp://head:8786", CUDA_VISIBLE_DEVICES="")[0] == 3


def test_the_address_is_asked_for(workers):
    code, errors = workers()
    assert code != 0
    assert "usage: workers.sh ADDRESS" in errors
    assert workers.lines() == []
