"""The command in processes of its own, with the fake extractor in the table."""

import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mer_store.store.store import Store

#: Python imports a module of this name at its start.
SITECUSTOMIZE = """
from extractors.table import EXTRACTORS
EXTRACTORS["audio"] = "moody_extractor:MoodyExtractor"
"""
LINE = [sys.executable, "-c", "from mer_store.cli import main; main()"]


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Let Python find a sitecustomize.py in `folder`, and what is beside the tests."""
    tests = Path(__file__).parent
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{tests}", **more}


class Command(subprocess.Popen):
    """A process that does not outlive a test that fails."""

    def __exit__(self, kind, error, traceback):
        if error is not None:
            self.kill()
        super().__exit__(kind, error, traceback)


def command(folder: Path, *arguments: str, **variables: str) -> Command:
    return Command(
        [*LINE, *arguments], cwd=folder, env=environment(folder, **variables), text=True,
        start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def extract(folder: Path, *more: str, **variables: str) -> Command:
    options = "extract --modality audio --device cpu --decoders 1".split()
    return command(folder, *options, *more, **variables)


def n_commits(store: Path) -> int:
    return len(list(store.glob("features/*/*/commits/*.json")))


def wait_until(condition, process: subprocess.Popen) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def outcomes(store: Path) -> dict[str, tuple[str, str]]:
    [features] = Store.open(store).feature_sets()
    rows = [row for record in features.records() for row in record.ledger]
    assert [clip for clip, n in Counter(row.clip_id for row in rows).items() if n > 1] == []
    return {row.clip_id: (row.status, row.reason or "") for row in rows}


@contextmanager
def scheduler() -> Iterator[tuple[subprocess.Popen, str]]:
    """Start a scheduler; give its process and address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = (
        f"scheduler --host 127.0.0.1 --port {port} --no-dashboard --dashboard-address 127.0.0.1:0"
    )
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-m", "dask", *line.split()], **quiet) as head:
        try:
            wait_until(lambda: _answers(port), head)
            yield head, f"tcp://127.0.0.1:{port}"
        finally:
            head.kill()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port)):
            return True
    except OSError:
        return False
