"""Workers that are killed, interrupted, lost and far away: real processes, a real scheduler.

The extractor is the fake one, which every new process finds in the table: it starts in a moment.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import dask
import pytest
from worker_processes import environment, extract, n_commits, outcomes, scheduler, wait_until

from mer_store.errors import MerStoreError, UsageError
from pipelines.cluster import local, settings
from pipelines.cluster.crew import DaskCrew, dask_crew
from pipelines.cluster.local import worker_environments
from pipelines.workers import Workers

N_CLIPS = 200
KILLER = "c150"
#: Python imports a module of this name at its start.
SITECUSTOMIZE = f"""
import os, sys
from extractors.table import EXTRACTORS
EXTRACTORS["audio"] = "fake_extractor:FakeExtractor"

def die(event, args):
    if event == "open" and str(args[0]).endswith("{KILLER}.txt"):
        os.kill(os.getpid(), 9)

if "KILL" in os.environ:
    sys.addaudithook(die)
"""


@pytest.fixture
def corpus(bench):
    bench.add(**{f"c{number}": "speech " + "x" * (number % 17) for number in range(N_CLIPS)})
    bench.prepare()
    (bench.folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    return bench


def children(process: subprocess.Popen) -> list[int]:
    """Living worker processes of `process`."""
    found = []
    for line in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = line.read_text().rsplit(")", 1)[1].split()[:2]
            is_worker = b"spawn_main" in (line.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(parent) == process.pid and is_worker and state != "Z":
            found.append(int(line.parent.name))
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_kill_and_ctrl_c(corpus):
    store = corpus.folder / "store"
    with extract(corpus.folder, "--workers", "2", "--part-clips", "1") as process:
        wait_until(lambda: n_commits(store) >= 2 and len(children(process)) == 2, process)
        victim, other = children(process)
        os.kill(victim, signal.SIGKILL)
        seen = n_commits(store)
        wait_until(lambda: n_commits(store) > seen, process)
        workers = {victim, other, *children(process)}
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert "run the same command again" in err
    assert "Traceback" not in err
    assert "distributed" not in err
    assert [pid for pid in workers if is_alive(pid)] == []
    done = outcomes(store)
    assert 0 < len(done) < N_CLIPS
    assert {status for status, _ in done.values()} == {"ok"}, "nobody innocent is blamed"
    assert corpus.extract().tally.n_ok == N_CLIPS - len(done), "nothing is lost, nothing twice"
    assert len(outcomes(store)) == N_CLIPS


def test_a_clip_that_kills_its_worker_is_blamed_alone(corpus):
    with extract(corpus.folder, "--workers", "2", "--part-clips", "100", KILL="yes") as process:
        _, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert "times a worker died" in err
    assert "Traceback" not in err
    found = outcomes(corpus.folder / "store")
    status, reason = found.pop(KILLER)
    assert (status, "worker died on this clip" in reason) == ("failed", True)
    assert len(found) == N_CLIPS - 1
    assert {status for status, _ in found.values()} == {"ok"}


def test_a_worker_that_is_slow_to_come_back_keeps_its_place():
    """Dask closes what is not back by then; twice killed within 15 s is enough by default."""
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "0.1s"}),
        settings.quiet_dask(),
        local.started(1, []) as client,
    ):
        for _ in range(2):
            (process,) = client.run(os.getpid).values()
            os.kill(process, signal.SIGKILL)
            give_up_s = time.monotonic() + 60
            while not is_back(client, process):
                assert time.monotonic() < give_up_s
                time.sleep(0.05)


def is_back(client, but) -> bool:
    try:
        return bool(set(client.run(os.getpid).values()) - {but})
    except Exception:  # noqa: BLE001 - it dies meanwhile
        return False


def test_kills_at_random_lose_nothing(corpus):
    rng = random.Random(7)
    store = corpus.folder / "store"
    with extract(corpus.folder, "--workers", "2", "--part-clips", "3") as process:
        for _ in range(3):
            target = n_commits(store) + rng.randint(1, 8)
            wait_until(
                lambda target=target: n_commits(store) >= target and children(process), process
            )
            os.kill(rng.choice(children(process)), signal.SIGKILL)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    found = outcomes(store)
    assert len(found) == N_CLIPS
    assert {status for status, _ in found.values()} == {"ok"}


@pytest.fixture
def served(corpus):
    """Start a scheduler with one worker of dask's own, and give its process and address."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with scheduler() as (head, address):
        line = f"worker {address} --nthreads 1 --no-nanny --no-dashboard"
        with subprocess.Popen(
            [sys.executable, "-m", "dask", *line.split()], env=environment(corpus.folder), **quiet
        ) as worker:
            try:
                yield head, address
            finally:
                worker.kill()


def test_a_scheduler_that_serves_and_then_dies(corpus, served):
    head, address = served
    store = corpus.folder / "store"
    assert (
        corpus.extract(layers="1", part_clips=20, workers=Workers(scheduler=address)).tally.n_ok
        == N_CLIPS
    )
    assert len(outcomes(store)) == N_CLIPS
    n_before = n_commits(store)

    def kill() -> None:
        while n_commits(store) < n_before + 2:
            time.sleep(0.005)
        head.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(MerStoreError, match="scheduler is gone") as raised:
        corpus.extract(layers="2", part_clips=1, workers=Workers(scheduler=address))
    killer.join()
    assert "run the same command again" in str(raised.value)
    assert n_before < n_commits(store) < n_before + N_CLIPS, "what was committed stays"


def connect(address: str) -> None:
    with dask_crew(lambda tally, name: None, lambda text: None, Workers(scheduler=address)):
        pytest.fail("connected")


@pytest.mark.parametrize(
    "address",
    ["tcp://127.0.0.1:1", "tcp://no-such-host.invalid:8786", "http://127.0.0.1:80", "???"],
)
def test_an_address_where_no_scheduler_is(address):
    with pytest.raises(UsageError, match="no dask scheduler answers there"):
        connect(address)


def test_an_address_where_something_else_listens(monkeypatch):
    monkeypatch.setattr(settings, "CONNECT_S", 0.2)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(UsageError, match="no dask scheduler answers there"),
    ):
        connect(f"tcp://127.0.0.1:{server.getsockname()[1]}")


def test_each_worker_has_its_share_of_cores_and_gpus(monkeypatch):
    monkeypatch.setattr(local, "n_cpus", lambda: 16)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    first, second, third = worker_environments(3, ["2", "5"])
    assert {env["OMP_NUM_THREADS"] for env in (first, second, third)} == {"5"}
    assert [env["CUDA_VISIBLE_DEVICES"] for env in (first, second, third)] == ["2", "5", "2"]
    assert "CUDA_VISIBLE_DEVICES" not in worker_environments(1, [])[0]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert worker_environments(1, [])[0]["OMP_NUM_THREADS"] == "3", "what a person set is kept"


def test_errors_of_workers_are_told_as_such():
    crew = DaskCrew(None, None, print, Workers(2))
    with pytest.raises(MerStoreError, match=r"ModuleNotFoundError.*same mer-store"):
        crew.lost(ModuleNotFoundError("No module named 'pipelines'"))
    assert crew.lost(UsageError("said already")) == 0
