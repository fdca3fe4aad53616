"""A run's page shows what its summary says, no more and no less, whatever the run is of."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from page_reader import read_page
from run_factory import CONFUSION, make_predictions, make_run, read

from pipelines.pictures import png
from pipelines.report.run_page import write_run_page
from pipelines.train.layer_sweep import LayerScore, draw_layer_sweep
from pipelines.train.probe import Settings

HOSTILE = """<script>alert('1')</script> "a" & $x^{$ `b`"""
ALIGN = {
    "video_to_audio_at_1": 0.1, "video_to_audio_at_10": 0.25, "audio_to_video_at_1": 0.2,
    "audio_to_video_at_10": 0.35, "chance_at_1": 0.02, "chance_at_10": 0.2, "n_pairs": 1000,
    "n_held_out": 50, "selection": "last", "seed": 0, "fingerprint": "aaaa",
}  # fmt: skip


def log(run, **numbers):
    """Log [epochs] numbers by name."""
    lines = [
        json.dumps({"epoch": epoch, **dict(zip(numbers, row, strict=True))})
        for epoch, row in enumerate(zip(*numbers.values(), strict=True))
    ]
    (run.path / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def page_of(run):
    return read_page(write_run_page(run))


def images(page):
    return page.tags.count("img")


def test_the_page_says_what_the_summary_says(tmp_path):
    page = page_of(make_run(tmp_path, test={"weighted_f1": 0.4567, "n_clips": 1500}))
    assert "70.12 ± 3.46 weighted F1 (%) of 20 clips" in page.words
    assert "over the folds; 2 folds × 1 repeat" in page.words
    assert "45.67 weighted F1 (%) of 1,500 test clips" in page.words
    assert page.table("class") == [["anger", "82.35", "8", "9"], ["worry", "86.96", "12", "11"]]
    assert page.table("weighted F1 (%)", "fold 0") == [["repeat 0", "67.67", "72.58", "70.12"]]
    shown = dict(page.table("figure"))
    assert shown["seed"] == "3"
    assert shown["n without features"] == "4"
    assert shown["elapsed s"] == "1.5"


def test_the_confusion_is_counted_and_shaded_by_row(tmp_path):
    page = page_of(make_run(tmp_path))
    rows = page.table("", "anger", "worry")
    counts = [[re.match(r"[\d,]+?(?=\d+ %)", cell) for cell in row[1:]] for row in rows]
    assert [row[0] for row in rows] == ["anger", "worry"]
    assert [row[1:] for row in rows] == [["788 %", "112 %"], ["217 %", "1083 %"]]
    assert all(all(row) for row in counts)
    shades = [float(share) for share in re.findall(r"rgba\(29,53,87,([\d.]+)\)", page.source)]
    shares = np.array(CONFUSION) / np.sum(CONFUSION, axis=1, keepdims=True)
    assert shades == pytest.approx(shares.ravel(), abs=1e-3)


def test_repeats_have_a_row_each(tmp_path):
    lanes = [0.1, 0.2, 0.3, 0.5]
    run = make_run(tmp_path, weighted_f1_by_lane=lanes, n_repeats=2, spread_over="repeats")
    page = page_of(run)
    assert page.table("weighted F1 (%)", "fold 0") == [
        ["repeat 0", "10.00", "20.00", "15.00"], ["repeat 1", "30.00", "50.00", "40.00"],
    ]  # fmt: skip
    assert "over the repeats; 2 folds × 2 repeats" in page.words


@pytest.mark.parametrize(
    ("selection", "optimistic"), [("last", False), ("inner", False), ("fold", True)]
)
def test_the_page_says_which_epoch_is_reported(tmp_path, selection, optimistic):
    page = page_of(make_run(tmp_path, selection=selection))
    assert f"Epoch reported (selection {selection})" in page.words
    assert ("optimistic" in page.words) == optimistic


def test_the_best_of_many_layers_is_said_to_be_chosen(tmp_path):
    layers = [{"layer": 17}, {"layer": 18}]
    page = page_of(make_run(tmp_path, layers=layers, best_layer=18))
    assert "Best of 2 layers, chosen by this score: a little optimistic" in page.words
    assert "Classes and folds below are of layer 18." in page.words
    alone = page_of(make_run(tmp_path / "alone", layers=layers[:1], best_layer=17))
    assert "optimistic" not in alone.words


def test_untrained_features_are_tagged(tmp_path):
    inputs = [read("visual", layers=("embed",), trained=False), read()]
    page = page_of(make_run(tmp_path, inputs=inputs))
    assert "untrained: visual" in page.words
    models = [row[1].split() for row in page.table("modality")]
    assert models == [["hubert", "untrained"], ["hubert"]]
    trained = page_of(make_run(tmp_path / "trained"))
    assert "untrained" not in trained.words


def test_what_was_read_and_set_is_there(tmp_path):
    run = make_run(tmp_path, settings=Settings(name="mine", lr=0.000123))
    page = page_of(run)
    assert page.table("modality") == [
        ["audio", "hubert", "utterance", "default", "18", "1,234", "auddef"]
    ]
    assert (run.path / "config.toml").read_text().split() <= page.words.split()
    assert "lr = 0.000123" in page.words
    assert f"python {run.summary['versions']['python']}" in page.words


def test_a_run_without_metrics_and_attention_has_a_page_without_pictures(tmp_path):
    page = page_of(make_run(tmp_path))
    assert images(page) == 0
    assert "Training" not in page.words
    assert "Attention" not in page.words


def test_curves_are_drawn_of_what_was_logged(tmp_path):
    run = make_run(tmp_path)
    log(run, loss=[2.0, 1.0], weighted_f1=[0.1, 0.2])
    two = page_of(run)
    assert images(two) == 1
    log(run, loss=[2.0, 1.0])
    one = page_of(run)
    assert two.sources != one.sources
    log(run, loss=[2.0])
    assert images(page_of(run)) == 1
    log(run, layer_weights=[[1.0, 2.0]])
    assert images(page_of(run)) == 0


def test_layer_weights_with_a_size_are_compared_by_it(tmp_path):
    def page(name, layers):
        return page_of(make_run(tmp_path / name, layer_weights=layers))

    plain = [{"layer": layer, "mean": layer - 17.5, "std": 0.1} for layer in (17, 18)]
    sized = [{**one, "size": 0.5} for one in plain]
    turned = [{**one, "mean": -one["mean"]} for one in sized]
    assert "the sign of all of them together means nothing" in page("sized", sized).words.lower()
    assert page("sized", sized).sources == page("turned", turned).sources
    assert "sign" not in page("plain", plain).words
    assert page("plain", plain).sources != page("sized", sized).sources
    assert images(page("alone", plain[:1])) == 0


def test_attention_is_the_mean_over_the_clips_predicted_so(tmp_path):
    predictions = make_predictions(("c0", "c1", "c,2"), labels=(0, 1, 1))
    run = make_run(tmp_path, task="fusion", predictions=predictions)
    (run.path / "attention.csv").write_text(
        'clip_id,audio,text\nc0,0.25,0.75\nc1,0.5,0.5\n"c,2",0.9,0.1\nnobody,1,0\n'
    )
    page = page_of(run)
    bars = re.findall(r'title="(\w+) ([\d.]+)"', page.source)
    assert bars == [("audio", "0.25"), ("text", "0.75"), ("audio", "0.70"), ("text", "0.30")]
    widths = [float(width) for width in re.findall(r"<span style=\"width:([\d.]+)%", page.source)]
    assert widths == pytest.approx([25, 75, 70, 30])
    assert "anger (1 clip)" in page.words
    assert "worry (2 clips)" in page.words


def test_the_draws_of_a_search_are_listed_and_the_chosen_one_is_marked(tmp_path):
    draws = [
        {"hidden": 128, "dropout": 0.5, "lr": 0.001, "weighted_f1_mean": 0.8},
        {"hidden": 64, "dropout": 0.5, "lr": 0.0001, "weighted_f1_mean": 0.7},
    ]
    facts = {
        "model": {"hidden": 128, "dropout": 0.5, "lr": 0.001},
        "draws_ranked_by": "the scored folds: optimistic",
    }
    page = page_of(make_run(tmp_path, task="fusion", draws=draws, **facts))
    assert page.table("weighted F1 (%)", "hidden") == [
        ["80.00", "128", "0.5", "0.001", "chosen"], ["70.00", "64", "0.5", "0.0001", ""],
    ]  # fmt: skip
    assert "Search among 2 draws" in page.words
    assert "It was chosen on the scored folds: optimistic." in page.words
    inner = [draw | {"inner_f1_mean": 0.6} for draw in draws]
    page = page_of(make_run(tmp_path / "inner", task="fusion", draws=inner, **facts))
    rows = page.table("weighted F1 (%)", "on the inner part (%)", "hidden")
    assert rows[1] == ["70.00", "60.00", "64", "0.5", "0.0001", ""]
    without = page_of(make_run(tmp_path / "without", task="fusion", draws=[], **facts))
    assert "Search" not in without.words


def test_an_adapter_says_what_its_features_saw(tmp_path):
    page = page_of(make_run(tmp_path, task="adapter", refit_saw="the labels of all folds: so"))
    assert "saw the labels of all folds: so" in page.words


def test_features_that_saw_labels_make_a_score_optimistic(tmp_path):
    inputs = [read("audio", "adapter", ("fused",), preprocessing={"adapter": {"digest": "d"}})]
    page = page_of(make_run(tmp_path, task="fusion", inputs=inputs))
    assert "optimistic Reads features of adapters that had seen the labels" in page.words
    aligned = page_of(make_run(tmp_path, task="align", inputs=inputs, summary=ALIGN))
    assert "optimistic" not in aligned.words


def test_a_digest_is_cut_short(tmp_path):
    page = page_of(make_run(tmp_path, adapter="sha256:" + 64 * "a", task="adapter"))
    shown = dict(page.table("figure"))["adapter"]
    assert shown == "sha256:" + 21 * "a" + "…"


def test_an_alignment_shows_recalls_beside_chance(tmp_path):
    run = make_run(tmp_path, task="align", summary=ALIGN)
    recalls = {name: [0.1, 0.2] for name in ALIGN if "_to_" in name}
    log(run, loss=[8.0, 7.0], temperature=[0.07, 0.08], **recalls)
    page = page_of(run)
    assert (
        "25.00 recall at 10 (%), video to audio, of 50 held-out pairs; chance is 20.00"
        in page.words
    )
    assert "35.00 recall at 10 (%), audio to video" in page.words
    assert "weighted F1" not in page.words
    assert images(page) == 1


def test_the_picture_of_a_layer_sweep_is_inside(tmp_path):
    run = make_run(tmp_path)
    scores = [LayerScore(layer, 0.5, 0.1, 10, (0.5, 0.5)) for layer in (17, 18)]
    picture = png(draw_layer_sweep(scores, "layers"))
    (run.path / "layer_sweep.png").write_bytes(picture)
    page = page_of(run)
    (run.path / "layer_sweep.png").unlink()
    assert images(page) == 1
    assert "Layer by layer" in page.words


def test_hostile_text_is_text(tmp_path):
    classes = (HOSTILE, "worry")
    inputs = [read(HOSTILE, trained=False) | {"fingerprint": HOSTILE}]
    inputs[0]["spec"] |= {"model": HOSTILE, "recipe": HOSTILE}
    run = make_run(
        tmp_path,
        task="fusion",
        settings=Settings(name=HOSTILE, classes=classes),
        inputs=inputs,
        predictions=make_predictions(("c0", HOSTILE, "c2"), classes),
        f1_by_class=dict.fromkeys(classes, 0.5),
        refit_saw=HOSTILE,
        spoken=HOSTILE,
        layer_weights=[{"layer": HOSTILE, "mean": 1.0, "std": 0.0}] * 2,
    )
    rows = f"{HOSTILE.replace(chr(34), chr(34) * 2)}"
    (run.path / "attention.csv").write_text(f'clip_id,"{rows}"\n"{rows}",1.0\nc0,1.0\n')
    log(run, loss=[2.0, 1.0])
    page = page_of(run)
    assert page.words.count("alert('1')") >= 8
    assert page.table("class")[0][0] == HOSTILE
    assert dict(page.table("figure"))["spoken"].startswith("<script>")


def test_a_page_is_written_anew(tmp_path):
    run = make_run(tmp_path)
    (run.path / "report.html").write_text("of yesterday")
    assert "yesterday" not in page_of(run).words
    assert not list(run.path.glob(".*.part"))


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium")
def test_a_browser_shows_no_markup(tmp_path):
    run = make_run(tmp_path)
    log(run, loss=[2.0, 1.0])
    line = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    shown = subprocess.run(
        [*line, f"--user-data-dir={tmp_path / 'profile'}", write_run_page(run).as_uri()],
        capture_output=True, text=True, check=True, timeout=120,
    ).stdout  # fmt: skip
    assert "&lt;img" not in shown
    assert shown.count("<img") == 1
