"""The probe trainer: what a run holds, what it does not depend on, what it refuses."""

import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
from part_factory import make_set, write_part
from sklearn.metrics import f1_score

from mer_store.clips.clip_list import ClipList
from mer_store.clips.words import CLASSES
from mer_store.errors import UsageError
from mer_store.store.store import Store
from pipelines.planted.settings import PlantedSettings
from pipelines.planted.write import make_planted
from pipelines.train import probe
from pipelines.train.choices import FeatureChoice
from pipelines.train.folds import read_folds
from pipelines.train.predictions import Predictions
from pipelines.train.run_folder import RunFolder
from pipelines.train.settings import find_config, read_settings
from pipelines.train.trainers import TRAINERS, Job, trainer_of

QUICK = {"epochs": 5, "hidden": 16, "lr": 1e-3, "combine": "learned"}
SMALL = PlantedSettings(
    n_labelled=150, n_unlabelled=40, n_test=20, audio_layers=(16, 17, 18, 19, 20),
    text_layers=(40,), frames=False,
)  # fmt: skip
BYTES = ("predictions.csv", "weights.safetensors", "metrics.jsonl", "config.toml", "folds.csv")


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return make_planted(tmp_path_factory.mktemp("planted"), SMALL)


@pytest.fixture
def train(planted, tmp_path):
    def run(folder="runs", layers="16-20", clip_list=None, **changes):
        settings = probe.Settings(features=FeatureChoice(layers=layers), **QUICK | changes)
        clips = clip_list or ClipList.read(planted.clips)
        return probe.train(
            Job(Store.open(planted.store), clips, settings, tmp_path / folder, "cpu")
        )

    return run


def predict(run, planted, clip_list=None):
    clips = clip_list or ClipList.read(planted.clips)
    return probe.predict(run, Store.open(planted.store), clips, "cpu")


def same_bytes(run, other):
    return [(run.path / name).read_bytes() == (other.path / name).read_bytes() for name in BYTES]


def test_a_run_holds_what_every_run_holds(train, planted):
    run = train(layers="18")
    summary = run.summary
    with_audio = planted.corpus.status["audio"] == "ok"
    labelled = int((planted.corpus.scored & with_audio).sum())
    assert summary["n_clips"] == summary["n_trained_on"] == labelled < 150
    assert np.sum(summary["confusion"]) == labelled
    assert summary["n_without_features"] == int((~with_audio).sum()) > 0
    assert (summary["selection"], summary["seed"], summary["epochs_chosen"]) == ("last", 0, 5)
    assert summary["elapsed_s"] > 0
    assert (summary["n_repeats"], summary["n_folds"], summary["spread_over"]) == (1, 5, "folds")
    by_lane = summary["weighted_f1_by_lane"]
    assert summary["weighted_f1_mean"] == pytest.approx(np.mean(by_lane))
    assert summary["weighted_f1_std"] == pytest.approx(np.std(by_lane, ddof=1))
    assert "layers" not in summary
    assert "layer_weights" not in summary
    assert [entry["epoch"] for entry in run.metrics()] == [0, 1, 2, 3, 4]
    losses = [entry["loss"] for entry in run.metrics()]
    assert losses == sorted(losses, reverse=True)
    assert run.inputs[0]["layers"] == [18]
    assert trainer_of("probe").Settings is probe.Settings
    assert TRAINERS["probe"] == probe.__name__


def test_every_clip_with_features_is_predicted_and_scored_ones_out_of_fold(train, planted):
    run = train(layers="18", epochs=40, dropout=0.0, lr=1e-2)
    predictions = run.predictions()
    with_audio = planted.corpus.status["audio"] == "ok"
    ids = np.array(planted.corpus.clip_ids)
    assert list(predictions.clip_ids) == ids[with_audio].tolist()
    label = [CLASSES[number] for number in planted.corpus.label[with_audio & planted.corpus.scored]]
    predicted = predictions.labels[: len(label)]
    score = f1_score(label, predicted, average="weighted")
    assert score == pytest.approx(run.summary["weighted_f1"])
    # Trained until it knows its clips by heart, which would show if the fold had been among them.
    assert run.metrics()[-1]["loss"] < 0.05
    assert score < 0.85


@pytest.mark.parametrize("combine", ["learned", "each"])
def test_predict_gives_what_training_wrote_whatever_the_list(train, planted, combine):
    run = RunFolder.open(train(combine=combine, epochs=15).path)
    written = run.predictions()
    again = predict(run, planted)
    assert again.clip_ids == written.clip_ids
    assert again.probability == pytest.approx(written.probability, abs=2e-6)
    clips = ClipList.read(planted.clips).clips
    some = ClipList(tuple(replace(clip, label=None, split=None) for clip in clips[100:5:-7]))
    few = predict(run, planted, some)
    place = {clip_id: row for row, clip_id in enumerate(written.clip_ids)}
    rows = [place[clip_id] for clip_id in few.clip_ids]
    assert len(rows) > 8
    assert few.probability == pytest.approx(written.probability[rows], abs=2e-6)


def test_predict_reads_the_set_and_layers_it_was_trained_on(tmp_path):
    planted = make_planted(tmp_path, replace(SMALL, n_labelled=60, n_unlabelled=4, n_test=2))
    clips, store = ClipList.read(planted.clips), Store.open(planted.store)
    settings = probe.Settings(features=FeatureChoice(), **QUICK)
    job = Job(store, clips, settings, tmp_path / "runs", "cpu")
    run = probe.train(job)
    write_part(make_set(planted.store, "utterance"), {clips.clips[0].clip_id: 1})
    with pytest.raises(UsageError, match="several"):
        probe.train(job)
    assert predict(run, planted).clip_ids == run.predictions().clip_ids


@pytest.mark.parametrize("combine", ["learned", "each"])
def test_the_same_seed_gives_the_same_bytes(train, combine):
    run, again = train(combine=combine), train("again", combine=combine)
    assert same_bytes(run, again) == [True] * len(BYTES)
    other = train(combine=combine, seed=1)
    assert run.path != other.path
    assert (run.path / "folds.csv").read_bytes() == (other.path / "folds.csv").read_bytes()
    assert not np.allclose(run.predictions().probability, other.predictions().probability)


def test_a_finished_run_is_not_trained_again(train):
    run = train()
    written = (run.path / "summary.json").stat().st_mtime_ns
    assert train().path == run.path
    assert (run.path / "summary.json").stat().st_mtime_ns == written


@pytest.mark.parametrize(("combine", "selection"), [("learned", "inner"), ("each", "last")])
def test_stopped_and_resumed_equals_uninterrupted(train, monkeypatch, combine, selection):
    changes = {"combine": combine, "selection": selection}
    whole = train("whole", **changes)
    gathered, n_batches = probe.gather, 0

    def interrupt(values, row):
        nonlocal n_batches
        n_batches += 1
        if n_batches == 10:  # four an epoch
            os.kill(os.getpid(), signal.SIGINT)
        return gathered(values, row)

    monkeypatch.setattr(probe, "gather", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train("parts", **changes)
    assert n_batches == 12
    run = train("parts", **changes)
    assert n_batches == 20
    assert same_bytes(run, whole) == [True] * len(BYTES)
    assert {**run.summary, "elapsed_s": 0, "finished_at": 0} == {
        **whole.summary, "elapsed_s": 0, "finished_at": 0,
    }  # fmt: skip


def test_layers_together_equal_layers_one_by_one(train):
    together = train(combine="each")
    weights = together.weights()
    for number, layer in enumerate((16, 17, 18, 19, 20)):
        alone = train(layers=str(layer), combine="each")
        for name, value in alone.weights().items():
            own = (
                weights[name][:, number::5]
                if name.startswith("stand")
                else weights[name][number::5]
            )
            assert (own - value).abs().max() <= 1e-4, name
        summed = train(layers=str(layer), combine="learned")
        assert np.array_equal(summed.predictions().probability, alone.predictions().probability)
        entry = together.summary["layers"][number]
        assert entry["layer"] == layer
        assert entry["weighted_f1_by_lane"] == alone.summary["weighted_f1_by_lane"]
        if layer == together.summary["best_layer"]:
            assert together.summary["weighted_f1_mean"] == alone.summary["weighted_f1_mean"]
            assert together.predictions().probability == pytest.approx(
                alone.predictions().probability, abs=1e-4
            )


def test_selection_fold_takes_the_best_epoch_of_each_fold(train):
    last, fold = (train(selection=name, epochs=12, lr=3e-3) for name in ("last", "fold"))
    pairs = list(
        zip(fold.summary["weighted_f1_by_lane"], last.summary["weighted_f1_by_lane"], strict=True)
    )
    assert all(best >= final for best, final in pairs)
    assert fold.summary["weighted_f1_mean"] > last.summary["weighted_f1_mean"]
    assert fold.summary["selection"] == "fold"
    chosen = fold.summary["epochs_chosen"]
    assert len(chosen) == 5
    assert len(set(chosen)) > 1
    # One more look: a run of that many epochs ends with the score that was chosen.
    shorter = train(selection="last", epochs=chosen[0] + 1, lr=3e-3)
    assert shorter.summary["weighted_f1_by_lane"][0] == pytest.approx(pairs[0][0])


def test_selection_inner_never_looks_at_the_scored_fold(train, planted, tmp_path):
    clips = ClipList.read(planted.clips)
    run = train(selection="inner", epochs=30, lr=3e-3)
    folds = read_folds(run.path / "folds.csv")
    assert run.summary["selection"] == "inner"
    wrong = tuple(
        replace(clip, label="anger" if clip.label != "anger" else "worry")
        if folds.get(clip.clip_id) == 0
        else clip
        for clip in clips.clips
    )
    given = {"selection": "inner", "epochs": 30, "lr": 3e-3, "folds": str(run.path / "folds.csv")}
    other = train(clip_list=ClipList(wrong), **given)
    assert other.summary["epochs_chosen"][0] == run.summary["epochs_chosen"][0]
    assert other.summary["weighted_f1_by_lane"][0] < run.summary["weighted_f1_by_lane"][0]
    place = [row for row, name in enumerate(run.predictions().clip_ids) if folds.get(name) == 0]
    ours, theirs = (one.predictions().probability[place] for one in (run, other))
    assert np.array_equal(ours, theirs)


def test_what_fills_up_a_batch_does_not_count(train, planted, monkeypatch):
    given = ClipList.read(planted.clips).clips
    clips = ClipList(
        tuple(
            replace(clip, fold=int(row % 8 > 0)) if clip.label else clip
            for row, clip in enumerate(given)
        )
    )
    counted, mean_loss = [], probe.mean_loss

    def count(losses, weight):
        counted.append(weight.sum(dim=1))
        return mean_loss(losses, weight)

    monkeypatch.setattr(probe, "mean_loss", count)
    run = train(clip_list=clips, epochs=1)
    scored = set(run.predictions().clip_ids)
    fold = np.array([number for name, number in run.folds().items() if name in scored])
    assert sum(counted).tolist() == [np.sum(fold == 1), np.sum(fold == 0)]
    assert np.sum(fold == 1) > 5 * np.sum(fold == 0)


def test_repeats_give_the_spread(train):
    one, two = train(layers="18"), train(layers="18", repeats=2)
    summary = two.summary
    assert (summary["n_repeats"], summary["spread_over"]) == (2, "repeats")
    by_lane = np.array(summary["weighted_f1_by_lane"]).reshape(2, 5)
    assert by_lane[0].tolist() == one.summary["weighted_f1_by_lane"]
    assert by_lane[1].tolist() != by_lane[0].tolist()
    assert summary["weighted_f1_std"] == pytest.approx(np.std(by_lane.mean(axis=1), ddof=1))
    assert summary["weighted_f1_mean"] == pytest.approx(by_lane.mean())


def test_pseudo_labelled_clips_are_trained_on_and_never_scored(train, planted, tmp_path):
    clips = ClipList.read(planted.clips)
    hidden = [clip for clip in clips.clips if clip.split == "unlabelled"]
    label = dict(zip(planted.corpus.clip_ids, planted.corpus.label.tolist(), strict=True))

    def pseudo(name, shift):
        rows = tuple(
            replace(clip, label=CLASSES[(label[clip.clip_id] + shift) % 6], confidence=0.95)
            for clip in hidden
        )
        ClipList(rows).write(tmp_path / name)
        return train(layers="18", pseudo=str(tmp_path / name), epochs=20, pseudo_weight=5.0)

    plain = train(layers="18", epochs=20)
    right, wrong = pseudo("right.csv", 0), pseudo("wrong.csv", 1)
    audio = planted.corpus.status["audio"]
    n_pseudo = sum(
        status == "ok" and split == "unlabelled"
        for status, split in zip(audio, planted.corpus.split, strict=True)
    )
    for run in (right, wrong):
        assert run.summary["n_clips"] == plain.summary["n_clips"]
        assert run.summary["n_trained_on"] == plain.summary["n_trained_on"] + n_pseudo
        assert not set(read_folds(run.path / "folds.csv")) & {clip.clip_id for clip in hidden}
    scores = [run.summary["weighted_f1_mean"] for run in (right, plain, wrong)]
    assert scores[0] > scores[2] + 0.1
    assert scores[1] > scores[2] + 0.05


@pytest.mark.parametrize("combine", ["mean", "sum"])
def test_layers_are_combined_while_they_are_read(train, planted, combine):
    run = train(combine=combine, layers="16-18")
    assert "layer_weights" not in run.summary
    weights = run.weights()
    assert not [name for name in weights if name.startswith("layer_sum")]
    folds = run.folds()
    seen = [name for name in run.predictions().clip_ids if folds.get(name, 0) != 0]
    values = Store.open(planted.store).features("audio", level="utterance", recipe="default")
    read = values.read([16, 17, 18], seen, np.float32)
    expected = read.mean(axis=1) if combine == "mean" else read.sum(axis=1)
    assert weights["standardise.mean"][0, 0].numpy() == pytest.approx(
        expected.mean(axis=0), abs=1e-4
    )
    assert predict(run, planted).probability == pytest.approx(
        run.predictions().probability, abs=2e-6
    )


def test_balanced_classes_help_the_rare_ones(train):
    plain, balanced = (
        train(layers="18", epochs=15, class_weight=name) for name in ("none", "balanced")
    )
    rare = CLASSES[-1]
    assert balanced.summary["f1_by_class"][rare] > plain.summary["f1_by_class"][rare]


@pytest.mark.parametrize(
    ("name", "layers", "recipe"),
    [
        ("hl", "last4sum", "mertools2024"),
        ("hl18", "18", "default"),
        ("hl16-21", "16-21", "default"),
        ("clipl", "embed", "default"),
        ("clipl-a", "aligned", "aligned"),
        ("layer-sweep", "15-24", "default"),
    ],
)
def test_configs_are_the_papers_rows(name, layers, recipe):
    settings = read_settings(probe.Settings, name)
    assert settings.name == name == find_config(name).stem
    assert (settings.features.layers, settings.features.recipe) == (layers, recipe)
    assert settings.modality == ("visual" if name.startswith("clipl") else "audio")
    assert settings.combine == ("each" if name == "layer-sweep" else "learned")
    assert settings.start_layer == 18


@pytest.mark.parametrize("name", ["hl", "hl18", "clipl"])
def test_configs_train_on_planted_features(name, planted, tmp_path):
    settings = read_settings(probe.Settings, name, ["epochs=1"])
    job = Job(Store.open(planted.store), ClipList.read(planted.clips), settings, tmp_path, "cpu")
    run = probe.train(job)
    assert run.path.name.startswith(f"probe-{name}-")
    assert predict(run, planted).clip_ids == Predictions.read(run.path / "predictions.csv").clip_ids
    assert json.loads((run.path / "run.json").read_text())["inputs"][0]["n_clips"] > 150


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layers": "23"}, ["23", "16-20"]),
        ({"layers": "embed"}, ["embed", "16-20"]),
        ({"layers": "18", "modality": "visual"}, ["18", "embed"]),
    ],
)
def test_layers_that_are_not_there_are_named_with_those_that_are(train, changes, words):
    with pytest.raises(UsageError) as caught:
        train(**changes)
    assert [word for word in words if word not in str(caught.value)] == []


def test_a_recipe_that_is_not_there_is_named_with_those_that_are(planted, tmp_path):
    settings = read_settings(probe.Settings, "clipl-a")
    job = Job(Store.open(planted.store), ClipList.read(planted.clips), settings, tmp_path, "cpu")
    with pytest.raises(UsageError, match=r"aligned(.|\n)*planted-visual"):
        probe.train(job)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("modality=smell", "modality: expected audio or visual or text; got 'smell'"),
        ("combine=median", "combine: expected each or learned or mean or sum"),
        ("hidden=-1", "hidden: expected 0"),
        ("dropout=1.0", "dropout: expected from 0 to below 1"),
        ("epochs=0", "epochs: expected 1 or more; got 0"),
        ("batch=0", "batch: expected 1 or more; got 0"),
        ("layer_rl=1.0", "did you mean layer_lr"),
    ],
)
def test_settings_that_cannot_be_trained_with_are_refused(assignment, expected):
    with pytest.raises(UsageError, match=expected):
        read_settings(probe.Settings, None, [assignment])
