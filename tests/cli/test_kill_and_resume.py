"""Killed at random moments and started again: the same rows as one undisturbed run, nothing twice."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from media_factory import make_wav

from mer_store.store.store import Store

COMMAND = [
    sys.executable, "-c", "from mer_store.cli import main; main()", "extract", "--modality", "audio",
    "--model", "tiny", "--stored-dtype", "float32", "--part-clips", "5", "--decoders", "1",
    "--layers", "17-18", "--frame-layers", "15",
]  # fmt: skip
N_CLIPS = 60


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    rng = random.Random(5)
    rows = ["clip_id,path"]
    for number in range(N_CLIPS):
        make_wav(folder / f"c{number}.wav", rng.uniform(0.2, 2.0), seed=number)
        rows.append(f"c{number},c{number}.wav")
    (folder / "clips.csv").write_text("\n".join(rows) + "\n")
    return folder


def extract(corpus: Path, store: Path, *more: str, kill_when=None, sign=signal.SIGKILL) -> int:
    """Run the command; once `kill_when` says so, send it `sign`."""
    with subprocess.Popen(
        [*COMMAND, "--store", str(store), *more],
        cwd=corpus,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        if kill_when:
            while process.poll() is None and not kill_when():
                time.sleep(0.002)
            if process.poll() is None:
                process.send_signal(sign)
        error = process.communicate(timeout=120)[1].decode()
    assert kill_when or process.returncode == 0, error
    return process.returncode


def n_commits(store: Path) -> int:
    return len(list(store.glob("features/*/*/commits/*.json")))


def rows_of(store: Path) -> dict[str, np.ndarray]:
    opened = Store.open(store)
    ids = [f"c{number}" for number in range(N_CLIPS)]
    pooled = opened.features("audio", level="utterance").read(layers=[17, 18], clip_ids=ids)
    frames = opened.features("audio", level="frame").ragged(layers=[15], clip_ids=ids)
    return {"pooled": pooled, "frames": np.concatenate(frames)}


@pytest.fixture(scope="module")
def undisturbed(corpus, tmp_path_factory):
    store = tmp_path_factory.mktemp("whole") / "store"
    extract(corpus, store)
    return rows_of(store)


def assert_same(store: Path, undisturbed) -> None:
    """Equal to float32's rounding: workers with fewer threads add in another order."""
    rows = rows_of(store)
    for name, expected in undisturbed.items():
        assert rows[name].shape == expected.shape
        assert np.abs(rows[name] - expected).max() <= 1e-5 * np.abs(expected).max(), name


def assert_nothing_twice(store: Path) -> None:
    for feature_set in Store.open(store).feature_sets():
        ids = [row.clip_id for record in feature_set.records() for row in record.ledger]
        assert len(ids) == len(set(ids)) == N_CLIPS


def test_killed_at_random_points(corpus, undisturbed, tmp_path):
    store = tmp_path / "store"
    rng = random.Random(11)
    for _ in range(4):
        target = n_commits(store) + rng.randint(1, 5)
        pause_s = rng.uniform(0, 0.05)

        def reached(target=target, pause_s=pause_s) -> bool:
            if n_commits(store) < target:
                return False
            time.sleep(pause_s)
            return True

        extract(corpus, store, kill_when=reached)
    extract(corpus, store)
    assert_same(store, undisturbed)
    assert_nothing_twice(store)
    assert not list(store.glob("features/*/*/tmp/*")), "what the kills left behind is swept"


def test_ctrl_c_commits_what_is_done_and_says_how_to_go_on(corpus, undisturbed, tmp_path):
    store = tmp_path / "store"
    code = extract(corpus, store, kill_when=lambda: n_commits(store) >= 2, sign=signal.SIGINT)
    assert code == 130
    done = len(Store.open(store).features("audio", level="utterance").clip_ids)
    assert 0 < done < N_CLIPS
    extract(corpus, store)
    assert_same(store, undisturbed)
    assert_nothing_twice(store)


def test_two_worker_processes_give_the_same_rows(corpus, undisturbed, tmp_path):
    store = tmp_path / "store"
    extract(corpus, store, "--workers", "2")
    assert_same(store, undisturbed)
    assert_nothing_twice(store)
