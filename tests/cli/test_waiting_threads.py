"""Commands that run models let torch's threads sleep while they wait, unless told otherwise."""

import os
import subprocess
import sys

import pytest

from mer_store.cli.threads import WAITING, wait_without_spinning


@pytest.fixture
def unset(monkeypatch):
    monkeypatch.setenv(WAITING, "to be restored")
    monkeypatch.delenv(WAITING)


def test_sleeping_is_the_default_and_a_setting_stays(unset, monkeypatch):
    wait_without_spinning()
    assert os.environ[WAITING] == "passive"
    monkeypatch.setenv(WAITING, "active")
    wait_without_spinning()
    assert os.environ[WAITING] == "active"


@pytest.mark.parametrize(
    "line",
    [
        ["extract", "--modality", "text", "--clips", "clips.csv", "--store", "store"],
        ["worker", "tcp://127.0.0.1:1", "--patience", "1"],
    ],
)
def test_it_is_set_before_torch_is_imported(unset, tmp_path, line):
    """OpenMP reads it when its library is loaded, which importing torch does."""
    (tmp_path / "clips.csv").write_text("clip_id,path,text\nc0,,ab\n")
    program = f"""
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("waiting:", os.environ.get({WAITING!r}))
            sys.stdout.flush()
            os._exit(3)
sys.meta_path.insert(0, Watch())
from mer_store.cli.main import main
main({line!r})
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3, done.stderr
    assert done.stdout == "waiting: passive\n"
