"""Which workers a command asks for, and what it says of them."""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from click.testing import CliRunner

from extractors.contract import ExtractorRequest
from mer_store.cli.extract import extract
from mer_store.errors import MerStoreError, UsageError
from pipelines.cluster import local
from pipelines.cluster.crew import DaskCrew, dask_crew
from pipelines.cluster.local import dashboard_options, local_gpus
from pipelines.cluster.scheduler import serves_pages
from pipelines.slurm import SlurmOptions
from pipelines.unfit import UnfitError
from pipelines.workers import Workers


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--cluster slurm --scheduler tcp://node1:8786", "give one"),
        ("--config slurm.toml", "give --cluster slurm with it"),
        ("--cluster slurm --config none.toml", "No such file"),
    ],
)
def test_options_that_contradict_each_other(bench, options, message):
    bench.add(a="speech")
    bench.prepare()
    line = ["--modality", "audio", "--store", str(bench.folder / "store")]
    line += ["--clips", str(bench.folder / "clips.csv"), *options.split()]
    with pytest.raises(UsageError, match=message):
        CliRunner().invoke(extract, line, catch_exceptions=False, standalone_mode=False)


def test_a_run_ends_with_its_bottleneck(bench):
    bench.add(a="speech", b="more speech")
    bench.prepare()
    line = ["--modality", "audio", "--store", str(bench.folder / "store"), "--progress", "json"]
    line += ["--clips", str(bench.folder / "clips.csv"), "--json"]
    result = CliRunner().invoke(extract, line, catch_exceptions=False)
    assert "bottleneck: " in result.stderr
    lines = [json.loads(text) for text in result.stderr.splitlines() if text.startswith("{")]
    assert [facts["event"] for facts in lines] == ["progress", "end"]
    found = json.loads(result.stdout)["bottleneck"]
    assert found["share"] == max(found["shares"].values())
    assert set(found["shares"]) == {"reading and decoding", "the model", "writing"}


def test_workers_compute_in_the_arithmetic_that_the_spec_names(bench):
    """Else a worker with a GPU would take bfloat16 for a run that was planned without one."""
    bench.add(a="speech")
    [part] = bench.prepare(request=ExtractorRequest("audio", compute_dtype="auto")).plan.parts
    [stream] = part.streams
    assert stream.request.compute_dtype == stream.levels[0].spec.compute_dtype == "float32"


def test_decoders_are_a_share_of_where_the_work_is_done(bench):
    bench.add(a="speech")
    workers = Workers(4, slurm=SlurmOptions(cores=12, gpus=2))
    [part] = bench.prepare(n_decoders=None, workers=workers).plan.parts
    assert part.n_decoders == 5
    assert workers.expected == 8
    assert not workers.are_local
    assert Workers().are_here


@pytest.mark.parametrize(
    ("n_workers", "gpus", "remark"),
    [
        (2, ["0", "1"], ""),
        (5, ["0", "1"], "5 workers share 2 GPUs"),
        (2, ["3"], "2 workers share 1 GPU:"),
        (1, ["0", "1"], "1 of 2 GPUs are used"),
        (3, [], ""),
    ],
)
def test_gpus_that_are_shared_or_idle_are_told(monkeypatch, n_workers, gpus, remark):
    monkeypatch.setattr(local, "gpu_names", lambda device: gpus)
    found, said = local_gpus(n_workers, "auto")
    assert found == gpus
    assert said.startswith(remark)
    assert bool(said) == bool(remark)


def test_the_dashboard_is_asked_for_and_needs_what_draws_it(monkeypatch):
    assert dashboard_options(False)["dashboard"] is False
    monkeypatch.setattr(local, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install bokeh"):
        dashboard_options(True)
    monkeypatch.setattr(local, "find_spec", lambda name: "found")
    assert dashboard_options(True) == {"dashboard": True, "dashboard_address": "127.0.0.1:0"}


def test_a_dashboard_is_named_where_it_answers():
    class Pages(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/status" else 404)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Pages) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert serves_pages(f"{address}/status")
        assert not serves_pages(f"{address}/other")
        server.shutdown()
    assert not serves_pages(f"{address}/status")
    assert not serves_pages(None)
    assert not serves_pages("file:///etc/hostname")


def test_the_extra_that_slurm_needs_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask_jobqueue.slurm", None)
    monkeypatch.delitem(sys.modules, "pipelines.cluster.slurm_jobs", raising=False)
    workers = Workers(1, slurm=SlurmOptions())
    with (
        pytest.raises(UsageError, match=r"pip install 'mer-store\[slurm\]'"),
        dask_crew(lambda tally, name: None, print, workers),
    ):
        pytest.fail("submitted")


class FakeClient:
    def __init__(self, *addresses: str) -> None:
        self.addresses = set(addresses)

    def nthreads(self):
        return dict.fromkeys(self.addresses, 1)

    def retire_workers(self, workers, close_workers):
        assert close_workers
        self.addresses -= set(workers)


def test_a_worker_that_has_made_something_is_not_to_blame():
    said = []
    crew = DaskCrew(FakeClient("a", "b", "c"), None, said.append, Workers(3), proven={"a"})
    assert not crew.dismiss(UnfitError("failed on every clip", worker="a"))
    assert crew.dismiss(UnfitError("no weights", worker="b"))
    assert said == ["taken out: no weights"]
    assert crew.n_workers() == 2
    crew.leaving.add("c")
    assert crew.n_workers() == 1


@pytest.mark.parametrize(
    ("workers", "n_dismissed", "waits"),
    [
        (Workers(2), 1, True),  # the other is being started again
        (Workers(2), 2, False),
        (Workers(scheduler="tcp://node1:8786"), 1, False),
        (Workers(2, slurm=SlurmOptions(gpus=2)), 3, True),  # the other job waits in the queue
        (Workers(2, slurm=SlurmOptions(gpus=2)), 4, False),
    ],
)
def test_the_run_ends_when_none_is_left_that_may_come(workers, n_dismissed, waits):
    crew = DaskCrew(FakeClient(), None, print, workers)
    for number in range(n_dismissed):
        crew.dismiss(UnfitError("no weights", 2, f"worker {number}"))
    if waits:
        assert crew.n_workers() == 0
    else:
        with pytest.raises(
            MerStoreError, match=r"no worker can do this work.*no weights"
        ) as raised:
            crew.n_workers()
        assert raised.value.exit_code == 2
