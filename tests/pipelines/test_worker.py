"""``mer-store worker``: it joins, leaves, and is sent away where it cannot do the work."""

import pickle
import re
import signal
from contextlib import ExitStack

import pytest
from distributed import Client
from worker_processes import (
    SITECUSTOMIZE,
    command,
    extract,
    n_commits,
    outcomes,
    scheduler,
    wait_until,
)

from mer_store import __version__
from mer_store.errors import UsageError
from pipelines.cluster import worker as joining
from pipelines.cluster.crew import VERSION_KEY
from pipelines.cluster.task import require_version
from pipelines.cluster.worker import described, device_variables
from pipelines.unfit import UnfitError

N_CLIPS = 120


@pytest.fixture
def corpus(bench):
    bench.add(**{f"c{number}": "speech " + "x" * (number % 17) for number in range(N_CLIPS)})
    bench.prepare()
    (bench.folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    return bench.folder


@pytest.fixture
def site(corpus):
    """Give a scheduler, and a function that starts a worker there."""
    with scheduler() as (head, address), ExitStack() as stack:

        def worker(name: str, **variables: str):
            process = stack.enter_context(
                command(corpus, "worker", address, "--device", "cpu", "--name", name, **variables)
            )
            stack.callback(process.kill)
            return process

        yield head, address, worker


def n_joined(address: str) -> int:
    with Client(address, set_as_default=False) as client:
        return len(client.nthreads())


def join_all(address: str, *workers) -> None:
    wait_until(lambda: n_joined(address) == len(workers), workers[0])


def test_one_that_cannot_load_the_model_is_sent_away_and_others_do_its_work(corpus, site):
    _, address, worker = site
    able, unable = worker("able", SLOW="0.01"), worker("unable", UNFIT="yes")
    join_all(address, able, unable)
    with extract(corpus, "--scheduler", address, "--part-clips", "10") as run:
        _, err = run.communicate(timeout=100)
    assert run.returncode == 0, err
    assert re.search(r"taken out: worker unable on \S+: model fake: no weights", err)
    assert "a worker died" not in err
    assert {status for status, _ in outcomes(corpus / "store").values()} == {"ok"}
    assert len(outcomes(corpus / "store")) == N_CLIPS
    assert unable.wait(timeout=30) == 0
    assert "sent away by the scheduler" in unable.communicate()[1]
    assert able.poll() is None, "it serves the next run"


def test_where_no_worker_can_load_the_model_the_run_ends_with_the_reason(corpus):
    with extract(corpus, "--workers", "2", "--part-clips", "10", UNFIT="yes") as run:
        _, err = run.communicate(timeout=100)
    assert run.returncode == 2, "as where this process cannot load it"
    assert err.count("taken out: worker") == 2
    assert "error: no worker can do this work; the last said: worker" in err
    assert "no weights in this folder" in err
    assert n_commits(corpus / "store") == 0


def test_one_that_joins_late_gets_work_and_one_that_leaves_hands_over(corpus, site):
    _, address, worker = site
    first = worker("first", SLOW="0.5")
    join_all(address, first)
    store = corpus / "store"
    with extract(corpus, "--scheduler", address, "--part-clips", "60") as run:
        wait_until(lambda: any(store.glob(".cache/stop-*")), run)  # the first part is in hand
        second = worker("second")
        wait_until(lambda: n_joined(address) == 2, run)
        wait_until(lambda: n_commits(store) >= 1, run)  # the second, which is fast, made a part
        first.send_signal(signal.SIGTERM)
        _, err = run.communicate(timeout=100)
    assert run.returncode == 0, err
    assert first.wait(timeout=30) == 0
    assert "what it had in hand is committed" in first.communicate()[1]
    assert second.poll() is None
    assert "a worker died" not in err
    assert f"{N_CLIPS} stored" in err
    found = outcomes(store)  # which tells of clips that are stored twice
    assert len(found) == N_CLIPS
    assert {status for status, _ in found.values()} == {"ok"}
    assert n_commits(store) == 3, (
        "what the first had done of its part, the rest of it, the other part"
    )


def test_it_leaves_where_the_scheduler_dies(site):
    head, address, worker = site
    process = worker("lonely")
    assert "has joined" in process.stderr.readline()
    head.kill()
    assert process.wait(timeout=60) == 1, process.communicate()
    assert f"error: the scheduler at {address} is gone" in process.communicate()[1]


def test_it_refuses_another_mer_store_than_that_of_the_run(site):
    _, address, worker = site
    with Client(address, set_as_default=False) as client:
        client.set_metadata(VERSION_KEY, "0.0.1")
        process = worker("old")
        assert process.wait(timeout=60) == 2
        assert f"its run has mer-store 0.0.1, here is {__version__}" in process.communicate()[1]
        client.set_metadata(VERSION_KEY, __version__)
        join_all(address, worker("same"))


def test_two_of_one_name(site):
    _, address, worker = site
    join_all(address, worker("twin"))
    other = worker("twin")
    assert other.wait(timeout=60) == 1
    assert "worker twin cannot join" in other.communicate()[1]


def test_a_run_of_another_version_is_refused_by_workers_that_were_there_before():
    require_version(__version__)
    with pytest.raises(UnfitError, match=r"the run has 9\.9"):
        require_version("9.9")


def test_no_scheduler_no_device(corpus):
    with command(corpus, "worker", "tcp://127.0.0.1:1") as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err.startswith("error: tcp://127.0.0.1:1: no dask scheduler answers there")
    with pytest.raises(UsageError, match="cuda:99"):
        device_variables("cuda:99")


def test_each_sees_one_device(monkeypatch):
    assert device_variables("cpu") == {"CUDA_VISIBLE_DEVICES": ""}
    monkeypatch.setattr(joining, "gpu_names", lambda device: ["4", "6"])
    monkeypatch.setattr(joining, "pick_device", FakeDevice)
    assert device_variables("auto") == {"CUDA_VISIBLE_DEVICES": "4"}
    assert device_variables("cuda:1") == {"CUDA_VISIBLE_DEVICES": "6"}
    monkeypatch.setenv("SLURM_LOCALID", "1")
    assert device_variables("auto") == {"CUDA_VISIBLE_DEVICES": "6"}
    assert "of 2; --device cuda:1" in described("auto", {"CUDA_VISIBLE_DEVICES": "4"})


class FakeDevice:
    type = "cuda"

    def __init__(self, name: str) -> None:
        self.index = int(name.partition(":")[2] or 0)


def test_unfit_errors_travel_whole():
    error = UnfitError("no weights", 2, "tcp://10.0.0.1:1234")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (str(copy), copy.exit_code, copy.worker) == ("no weights", 2, "tcp://10.0.0.1:1234")
