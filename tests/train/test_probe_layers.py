"""Which layer carries the most: a sweep finds it, learnable weights move to it, a picture shows it."""

import csv
import io

import numpy as np
import pytest
from matplotlib.image import imread

from mer_store.clips.clip_list import ClipList
from mer_store.store.store import Store
from pipelines.pictures import png
from pipelines.planted.settings import PlantedSettings
from pipelines.planted.write import make_planted
from pipelines.train import probe
from pipelines.train.choices import FeatureChoice
from pipelines.train.layer_sweep import LayerScore, draw_layer_sweep
from pipelines.train.settings import read_settings
from pipelines.train.trainers import Job

BEST = 19


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    settings = PlantedSettings(
        n_unlabelled=20, n_test=10, best_layer=BEST, text_layers=(40,), frames=False
    )
    return make_planted(tmp_path_factory.mktemp("planted"), settings)


def train(planted, runs, settings):
    store, clips = Store.open(planted.store), ClipList.read(planted.clips)
    return probe.train(Job(store, clips, settings, runs, "cpu"))


@pytest.fixture(scope="module")
def sweep(planted, tmp_path_factory):
    quick = ["epochs=20", "hidden=32", "lr=1e-3"]
    settings = read_settings(probe.Settings, "layer-sweep", quick)
    return train(planted, tmp_path_factory.mktemp("runs"), settings)


def test_the_sweep_finds_the_planted_layer(sweep, planted):
    summary = sweep.summary
    layers = {entry["layer"]: entry["weighted_f1_mean"] for entry in summary["layers"]}
    assert list(layers) == list(range(15, 25))
    assert summary["best_layer"] == BEST == max(layers, key=layers.get)
    assert summary["weighted_f1_mean"] == layers[BEST]
    assert layers[BEST] > max(layers[BEST - 1], layers[BEST + 1]) + 0.02
    assert layers[15] + 0.2 < layers[BEST]
    oracle = planted.corpus.oracle()
    reached = [layers[layer] / oracle[f"audio {layer}"] for layer in (18, 19, 20)]
    assert min(reached) > 0.8
    assert max(reached) < 1.05
    spread = [entry["weighted_f1_std"] for entry in summary["layers"]]
    by_lane = np.array([entry["weighted_f1_by_lane"] for entry in summary["layers"]])
    assert spread == pytest.approx(by_lane.std(axis=1, ddof=1))


def test_the_table_says_what_the_summary_says(sweep):
    with (sweep.path / "layer_sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["layer", "weighted_f1_mean", "weighted_f1_std", "n_clips"]
    for row, entry in zip(rows, sweep.summary["layers"], strict=True):
        assert row == {
            "layer": str(entry["layer"]),
            "weighted_f1_mean": f"{entry['weighted_f1_mean']:.6f}",
            "weighted_f1_std": f"{entry['weighted_f1_std']:.6f}",
            "n_clips": str(sweep.summary["n_clips"]),
        }


def test_the_picture_is_a_readable_png(sweep):
    picture = imread(io.BytesIO((sweep.path / "layer_sweep.png").read_bytes()), format="png")
    height, width = picture.shape[:2]
    assert width > 500
    assert height > 300
    assert picture[..., :3].std() > 0.05  # not blank


def scores_of(means, std=0.02):
    return [LayerScore(15 + n, mean, std, 1234, (mean,)) for n, mean in enumerate(means)]


def test_the_picture_shows_each_layer_and_marks_the_best():
    means = [0.4, 0.45, 0.71, 0.6]
    figure = draw_layer_sweep(scores_of(means), "title of it")
    (axis,) = figure.axes
    png(figure)
    curve, best = (line.get_xydata() for line in axis.get_lines())
    assert curve == pytest.approx(np.stack([np.arange(4), 100 * np.array(means)], axis=1))
    assert best == pytest.approx(np.array([[2, 71.0]]))
    assert [label.get_text() for label in axis.get_xticklabels()] == ["15", "16", "17", "18"]
    low, high = axis.get_ylim()
    assert low <= 38.0
    assert high >= 73.0
    assert high - low < 60
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("layer", "weighted F1 (%)")
    texts = [text.get_text() for text in (*axis.texts, *axis.get_legend().get_texts())]
    assert "71.00" in texts
    assert "best: layer 17" in texts
    assert axis.get_title(loc="left") == "title of it"


@pytest.mark.parametrize("means", [[0.5], [0.5, 0.5], [0.0, 1.0]])
def test_pictures_of_odd_sweeps_can_be_drawn(means):
    figure = draw_layer_sweep(scores_of(means, 0.0), "")
    assert png(figure).startswith(b"\x89PNG")
    low, high = figure.axes[0].get_ylim()
    assert 0 <= low < high


def test_the_title_says_what_was_probed(sweep, monkeypatch, planted, tmp_path):
    from pipelines.train import layer_sweep

    titles = []

    def draw(layers, title):
        titles.append(title)
        return draw_layer_sweep(layers, title)

    monkeypatch.setattr(layer_sweep, "draw_layer_sweep", draw)
    choice = FeatureChoice(layers="18,19")
    settings = probe.Settings(
        combine="each", features=choice, epochs=1, hidden=0, selection="fold", repeats=2
    )
    run = train(planted, tmp_path, settings)
    (title,) = titles
    n_clips = run.summary["n_clips"]
    for words in ("audio", "UNTRAINED", f"{n_clips} clips", "selection 'fold'", "over repeats"):
        assert words in title


def test_layer_weights_move_to_the_planted_layer(planted, tmp_path):
    start = 22
    settings = probe.Settings(
        combine="learned", features=FeatureChoice(layers="16-22"), start_layer=start
    )
    run = train(planted, tmp_path, settings)
    logged = np.array([entry["layer_weights"] for entry in run.metrics()])
    assert logged.shape == (60, 7)
    assert logged[0] == pytest.approx(np.array([0, 0, 0, 0, 0, 0, 1]), abs=0.3)
    size = {entry["layer"]: entry["size"] for entry in run.summary["layer_weights"]}
    others = max(value for layer, value in size.items() if layer != BEST)
    assert size[BEST] > 1.3 * others
    weight = np.abs(run.weights()["layer_sum.weight"].numpy())
    assert weight.argmax(axis=1).tolist() == [BEST - 16] * 5
    one = train(planted, tmp_path, probe.Settings(features=FeatureChoice(layers=str(start))))
    assert run.summary["weighted_f1_mean"] > one.summary["weighted_f1_mean"] + 0.15
    middle = [entry["mean"] for entry in run.summary["layer_weights"]]
    assert logged[-1] == pytest.approx(middle, abs=1e-6)


def test_weights_start_at_layer_18_or_in_the_middle(planted, tmp_path):
    for layers, expected in (("16-20", 2), ("19-24", 3), ("18,24", 0)):
        settings = probe.Settings(
            features=FeatureChoice(layers=layers), epochs=1, layer_lr=1e-9, hidden=4
        )
        run = train(planted, tmp_path, settings)
        weight = run.weights()["layer_sum.weight"].numpy()
        place = np.zeros_like(weight)
        place[:, expected] = 1.0
        assert weight == pytest.approx(place, abs=1e-6)
