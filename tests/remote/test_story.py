"""The README's story of three members and a bucket, command by command."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mer_store.clips.clip_list import ClipList
from pipelines.demo.corpus import make_corpus

README = Path(__file__).parents[2] / "README.md"
STORY = re.compile(r"<!-- story -->\n```\n(.*?)```\n<!-- /story -->", re.DOTALL)
FAILS = "the power fails half way"
N_CLIPS = 10


def story():
    """Yield (member, command, remark) of each line."""
    member = None
    for line in STORY.search(README.read_text(encoding="utf-8"))[1].splitlines():
        if line.startswith("# "):
            member = line[2:]
        else:
            command, _, remark = line.partition("#")
            yield member, command.split(), remark.strip()


class Gate:
    """Passes requests on to an S3 server; holds uploads back from the one after `n_puts` on."""

    def __init__(self, app) -> None:
        self.app, self.n_puts, self.held, self.open = (
            app,
            None,
            threading.Event(),
            threading.Event(),
        )
        self.lock = threading.Lock()

    def __call__(self, environ, start_response):
        if environ["REQUEST_METHOD"] == "PUT" and self.n_puts is not None:
            with self.lock:
                self.n_puts -= 1
                is_over = self.n_puts < 0
            if is_over:
                self.held.set()
                self.open.wait(60)
                start_response("503 Slow Down", [])
                return [b""]
        return self.app(environ, start_response)


@pytest.fixture
def bucket():
    """Serve S3 on this machine; yield (gate, environment)."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    gate = Gate(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, gate, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield (
        gate,
        {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}",
            "AWS_ACCESS_KEY_ID": "team",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        },
    )
    gate.open.set()
    server.shutdown()


@pytest.fixture
def members(tmp_path):
    """Give each member a folder with a clip list and settings."""
    listed = ClipList.read(make_corpus(tmp_path / "corpus", offline=True))
    clips = [clip for clip in listed.clips if not clip.clip_id.startswith("odd_")][:N_CLIPS]
    for name in ("ann", "bob", "cem"):
        folder = tmp_path / name
        folder.mkdir()
        ClipList(tuple(clips)).write(folder / "clips.csv")
        (folder / "mer-store.toml").write_text(
            '[extract]\nmodel = "tiny"\npart-clips = 3\n'
            '[extract.visual]\nimages-per-second = 2\nfaces = "centerface"\n'
        )
    return tmp_path


def test_the_story_goes_as_the_readme_tells_it(members, bucket, monkeypatch):
    gate, variables = bucket
    environment = (
        os.environ
        | variables
        | {
            "MER_STORE_SET": "epochs=2 batch=4",
            "MER_STORE_CACHE": str(members / "cache"),
            "OMP_NUM_THREADS": "1",
        }
    )

    def start(member, command):
        assert command[0] == "mer-store"
        return subprocess.Popen(
            [sys.executable, "-c", "from mer_store.cli import main; main()", *command[1:]],
            cwd=members / member,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(member, *command):
        process = start(member, command)
        output, errors = process.communicate(timeout=200)
        assert process.returncode == 0, f"{member}: {command}\n{output}{errors}"
        return output

    import boto3

    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3", endpoint_url=variables["AWS_ENDPOINT_URL"]).create_bucket(Bucket="team")
    outputs = {}
    for member, command, remark in story():
        if remark != FAILS:
            outputs[member, " ".join(command[1:3])] = run(member, *command)
            continue
        gate.n_puts = 12
        process = start(member, command)
        assert gate.held.wait(60), "the push ended before the power failed"
        process.send_signal(signal.SIGKILL)
        process.communicate()
        gate.n_puts = None
        gate.open.set()
    [run_folder] = outputs["cem", "train probe"].split()
    summary = json.loads((members / "cem" / run_folder / "summary.json").read_text())
    assert 0 <= summary["weighted_f1_mean"] <= 1
    union = json.loads(run("ann", "mer-store", "status", "--json"))["feature_sets"]
    assert sorted((one["modality"], one["ok"]) for one in union) == [
        ("audio", N_CLIPS), ("visual", N_CLIPS),
    ]  # fmt: skip
    [mine] = json.loads(run("cem", "mer-store", "status", "--json"))["feature_sets"]
    assert (mine["modality"], mine["layers"]) == ("audio", [18])
    direct = json.loads(
        run("cem", "mer-store", "status", "--json", "--store", "s3://team/mer2024")
    )["feature_sets"]
    assert sorted(one["modality"] for one in direct) == ["audio", "visual"]
