"""What a picture shows can be read without seeing it."""

import re
from html import unescape

from page_reader import read_page
from run_factory import make_predictions, make_run

from pipelines.report.run_page import write_run_page


def alts(page):
    return [unescape(words) for words in re.findall(r'<img alt="([^"]*)"', page.source)]


def test_curves_say_where_they_start_and_end(tmp_path):
    run = make_run(tmp_path)
    lines = (
        '{"epoch": 0, "loss": 1.75}\n{"epoch": 1, "loss": 1.25, "weighted_f1": 0.3}\n'
        '{"epoch": 2, "loss": 0.5, "weighted_f1": 0.625}\n'
    )
    (run.path / "metrics.jsonl").write_text(lines)
    assert alts(read_page(write_run_page(run))) == [
        "over 3 epochs: loss from 1.75 to 0.5, weighted f1 from 0.3 to 0.625"
    ]


def test_layer_weights_are_named_by_layer(tmp_path):
    signed = [{"layer": 17, "mean": -0.25, "std": 0.1}, {"layer": 18, "mean": 0.75, "std": 0.1}]
    run = make_run(tmp_path, layer_weights=signed)
    assert alts(read_page(write_run_page(run))) == ["learnt weight by layer: 17: -0.25, 18: 0.75"]
    sized = [one | {"size": abs(one["mean"]) + 0.5} for one in signed]
    run = make_run(tmp_path, layer_weights=sized)
    assert alts(read_page(write_run_page(run))) == ["learnt weight by layer: 17: 0.75, 18: 1.25"]


def test_attention_too_small_for_its_bar_stands_in_the_table(tmp_path):
    run = make_run(tmp_path, "fusion", predictions=make_predictions())
    (run.path / "attention.csv").write_text(
        "clip_id,audio,visual,text\nc0,0.9,0.002,0.098\nc1,0.5,0.004,0.496\nc2,0.7,0.002,0.298\n"
    )
    page = read_page(write_run_page(run))
    assert page.table("predicted class") == [
        ["anger (1 clip)", "0.900", "0.002", "0.098"],
        ["worry (2 clips)", "0.600", "0.003", "0.397"],
    ]
