"""A limit on file sizes, as a full disk: a clear error, an intact store, and the next run finishes."""

import subprocess
import sys

import pytest
from media_factory import make_wav

from mer_store.store.store import Store
from mer_store.store.verify import verify

CODE = """
import resource, sys
limit = int(sys.argv.pop(1))
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from mer_store.cli import main
main()
"""


def extract(folder, limit, *more):
    options = "extract --modality audio --model tiny".split()
    line = [sys.executable, "-c", CODE, str(limit), *options, *more]
    return subprocess.run(
        line, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("limit", [5_000, 60_000])
def test_full_disk(tmp_path, limit):
    rows = ["clip_id,path"]
    for number in range(6):
        make_wav(tmp_path / f"c{number}.wav", 1.0 + number, seed=number)
        rows.append(f"c{number},c{number}.wav")
    (tmp_path / "clips.csv").write_text("\n".join(rows) + "\n")
    assert extract(tmp_path, 0, "--layers", "18").returncode == 0
    before = Store.open(tmp_path / "store").features("audio", level="utterance").read([18])

    full = extract(tmp_path, limit, "--layers", "1-24", "--level", "frame")
    assert full.returncode == 1
    assert "Traceback" not in full.stderr
    assert "limit" in full.stderr or "full" in full.stderr
    store = Store.open(tmp_path / "store")
    assert verify(store, deep=True) == []
    assert (store.features("audio", level="utterance").read([18]) == before).all()
    assert not list((tmp_path / "store").glob("features/*/*/tmp/*")), (
        "the part that did not fit is dropped"
    )

    assert extract(tmp_path, 0, "--layers", "1-24", "--level", "frame").returncode == 0
    store = Store.open(tmp_path / "store")
    assert len(store.features("audio", level="frame").clip_ids) == 6
    assert verify(store, deep=True) == []
