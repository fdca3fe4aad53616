"""The script that measures loading runs from end to end, tiny, and stops where rows differ."""

import re
import sys

import pytest
from benchmarks.script_runs import BENCHMARKS, run

sys.path.insert(0, str(BENCHMARKS))

from loading import TARGETS, check, write_corpus


def test_each_cache_and_size_of_part_has_its_lines(tmp_path):
    options = "--clips 60 --rounds 1 --part-clips 64 32".split()
    text = run("loading.py", *options, TMPDIR=str(tmp_path))
    rows = re.findall(r"^\| (warm|cold) \| (.+?) \| ([\d.]+) \|", text, re.MULTILINE)
    assert len(rows) == 2 * 2 * 5
    assert all(float(ratio) == 1 for _, job, ratio in rows if job == "np.fromfile")
    judged = re.findall(
        r"^  (warm|cold), (.+), parts of (\d+) clips: .+: ([\d.,]+) \(target <= ",
        text, re.MULTILINE,
    )  # fmt: skip
    assert [(cache, job) for cache, job, *_ in judged] == list(TARGETS) * 2
    assert [int(figure[2]) for figure in judged] == [64] * 4 + [32] * 4
    assert all(float(figure[3].replace(",", "")) > 0 for figure in judged)
    assert list(tmp_path.iterdir()) == [], "it tidies up"


def test_rows_that_differ_stop_it(tmp_path):
    corpus = write_corpus(tmp_path, tmp_path / "raw", 5, 3)
    check(corpus)
    plain = corpus.raw / "visual"
    plain.write_bytes(plain.read_bytes()[:-1] + b"\x01")
    with pytest.raises(SystemExit, match="the rows differ from those of"):
        check(corpus)
