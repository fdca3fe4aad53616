"""The scripts that measure full-size models run from end to end, at a tiny size on a CPU."""

import re

import pytest
import torch
from benchmarks.script_runs import run
from torch.utils.flop_counter import FlopCounterMode

from extractors.visual.pixels import pixels_of


def run_tiny(script, folder, *options):
    """Run a script at a tiny size, all its files in a folder."""
    sized = ("--size", "tiny", "--rounds", "1", "--folder", str(folder))
    return run(script, *sized, *options, cwd=folder, MER_STORE_CACHE=str(folder / "cache"))


def stages(text):
    """Split what gpu.py prints: title -> name of a line -> the number in it."""
    found = {}
    for block in text.strip().split("\n\n"):
        title, *lines = block.splitlines()
        parts = [re.fullmatch(r"  (.{40}) +([\d.e+-]+).*", line) for line in lines]
        found[title] = {part[1].strip(): part[2] for part in parts if part}
    return found


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu")
    options = ["--device", "cpu", "--clips", "3", "--seconds", "0.3", "--height", "144"]
    return stages(run_tiny("gpu.py", folder, "all", *options))


def test_each_stage_has_its_lines(measured):
    assert list(measured) == [
        "HuBERT-large from wav files: 3 clips on cpu",
        "CLIP-L from face crops: 3 clips on cpu",
        "CLIP-L from videos of 144 lines: 3 clips on cpu",
        "Baichuan2-7B, 4 blocks, from transcripts: 3 clips on cpu",
    ]
    for lines in measured.values():
        for name in ("the model alone", "from files to committed parts", "FLOP/s"):
            assert float(lines[name]) > 0, name
        whole, alone = (
            float(lines[name]) for name in ("from files to committed parts", "the model alone")
        )
        assert float(lines["share of the model alone"]) == pytest.approx(whole / alone, rel=0.02)


def test_rows_are_those_of_the_usual_loop(measured):
    apart = [float(lines.get("largest difference from its rows", 0)) for lines in measured.values()]
    assert max(apart) < 2e-4
    assert min(apart[0], apart[3]) > 0


def test_flops_are_those_of_the_architecture(measured):
    """Per image: 50 tokens through 24 blocks, attention among them, 49 patches, one projection; resizing."""
    lines = measured["CLIP-L from face crops: 3 clips on cpu"]
    tokens, width, mlp = 50, 32, 64
    block = tokens * (4 * width**2 + 2 * width * mlp) + 2 * tokens**2 * width
    flops = 2 * (24 * block + 49 * 3 * 32**2 * width + width * 24)
    with FlopCounterMode(display=False) as resizing:
        pixels_of(None)(torch.zeros((1, 112, 112, 3), dtype=torch.uint8))
    flops += resizing.get_total_flops()
    assert float(lines["FLOPs of a unit (images)"]) == pytest.approx(flops / 1e9, rel=1e-3)


def test_the_larger_language_model_with_fewer_blocks(tmp_path):
    options = ["--text-model", "13b", "--blocks", "3", "--device", "cpu", "--clips", "2"]
    (title, lines), *_ = stages(run_tiny("gpu.py", tmp_path, "text", *options)).items()
    assert title.startswith("Baichuan2-13B, 3 blocks")
    tokens_per_s = float(lines["from files to committed parts"])
    whole_s = float(lines["all of MER2024, 2,311,900 tokens"])
    assert whole_s == pytest.approx(2_311_900 * 40 / 3 / tokens_per_s, rel=0.01)


def test_the_audio_baseline(tmp_path):
    text = run_tiny("baseline_audio.py", tmp_path, "--clips", "3")
    ratio = re.search(
        r"extract against the usual loop.*: ([\d.]+) times as fast \(target >= 1.1\)", text
    )
    assert float(ratio[1]) > 0
    apart = re.search(r"apart by: ([\d.e-]+) of their length", text)
    assert 0 < float(apart[1]) < 1e-5
    assert re.search(r"^  loop +[\d,]+ bytes in 3 files$", text, re.M)
