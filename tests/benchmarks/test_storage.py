"""The script that measures the store runs from end to end, tiny; other libraries read what they wrote."""

import re
import sys

import numpy as np
import pytest
from benchmarks.script_runs import BENCHMARKS, run

sys.path.insert(0, str(BENCHMARKS))

from storage_data import Data
from storage_rivals import Hdf5, Npy, Zarr

#: What has a target: a piece of its name.
TARGETS = (
    "write utterances", "write frames", "a whole layer of 20 clips, warm: store, not verified",
    "a whole layer of 20 clips, cold: store", "random rows, warm: store", "random rows, cold: store",
    "4 clips x 6 layers of frames, warm: store", "4 clips x 6 layers of frames, cold: store",
    "1 clip x 6 layers of frames, warm: store",
)  # fmt: skip


def test_the_table_says_what_is_checked_and_targets_follow(tmp_path):
    options = (
        "--utterances 20 --clips 4 --frames 6 --width 8 --parts 2 --rounds 1 --beside h5py".split()
    )
    text = run("storage.py", *options, "--folder", str(tmp_path))
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    ratios = {row[0][2:] + ": " + row[1]: float(row[3]) for row in rows[1:]}
    assert all(ratio > 0 for ratio in ratios.values())
    assert all(row[2] for row in rows)
    figures = re.findall(r"^  (.+): [\d.,e+-]+ \(target >= ", text, re.MULTILINE)
    for piece in TARGETS:
        assert [name for name in figures if piece in name], piece
    assert list(tmp_path.iterdir()) == [], "it tidies up"


@pytest.mark.parametrize("library", [Zarr, Hdf5, Npy])
def test_other_libraries_give_the_same_rows(tmp_path, library):
    one_row = Data(tmp_path / "u", "utterance", np.ones(9, np.int64), 4)
    rival, numbers = library(one_row), np.array([1, 4, 7])
    rival.write()
    np.testing.assert_array_equal(rival.layer(18)(), one_row.layers[18])
    np.testing.assert_array_equal(rival.rows(18, numbers)(), one_row.layers[18][numbers])
    frames = Data(tmp_path / "f", "frame", np.array([2, 300, 5]), 4)
    rival = library(frames)
    rival.write()
    for number, clip in zip((1, 2), rival.frames(np.array([1, 2]))(), strict=True):
        for place, rows in enumerate(frames.layers.values()):
            np.testing.assert_array_equal(clip[:, place], rows[frames.span(number)])
