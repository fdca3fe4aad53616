"""The fusion trainer: what a run holds, what its numbers depend on, what it is better than."""

import csv
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from mer_store.clips.clip_list import ClipList
from mer_store.clips.words import CLASSES
from mer_store.errors import UsageError
from mer_store.store.store import Store
from pipelines.planted.settings import PlantedSettings
from pipelines.planted.write import make_planted
from pipelines.train import fusion, lanes
from pipelines.train.fusion_stack import Variant
from pipelines.train.search import SearchSettings, draw_variants
from pipelines.train.settings import read_settings
from pipelines.train.trainers import Job

SMALL = PlantedSettings(
    n_labelled=400, n_unlabelled=60, n_test=30, audio_layers=(18,), text_layers=(40,), frames=False,
    no_face=0.3, show_test_labels=True,
)  # fmt: skip
ALL = ("audio", "visual", "text")
#: 400 clips, some without features, in five folds: 318 to 320 to train on, 32 at a time.
N_BATCHES = 10
QUICK = ("audio.layers=18", "text.layers=40", "hidden=16", "lr=3e-3", "epochs=4")


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return make_planted(tmp_path_factory.mktemp("planted"), SMALL)


@pytest.fixture
def train(planted, tmp_path):
    def run(*assignments, folder="runs"):
        settings = read_settings(fusion.Settings, None, [*QUICK, *assignments])
        clips = ClipList.read(planted.clips)
        job = Job(Store.open(planted.store), clips, settings, tmp_path / folder, "cpu")
        return fusion.train(job)

    return run


def logits_of(run):
    """Return {clip id: log probabilities}."""
    predictions = run.predictions()
    return dict(zip(predictions.clip_ids, np.log(predictions.probability + 1e-9), strict=True))


def test_a_run_holds_predictions_of_every_clip_and_its_attention(train, planted):
    run = train("repeats=2")
    summary, predictions = run.summary, run.predictions()
    corpus = planted.corpus
    usable = [
        i for i, ok in zip(corpus.clip_ids, corpus.status["text"] != "failed", strict=True) if ok
    ]
    assert list(predictions.clip_ids) == usable
    assert (summary["n_repeats"], summary["n_folds"], summary["n_without_features"]) == (2, 5, 2)
    assert summary["test"]["n_clips"] == sum(
        split == "test" and clip_id in set(usable)
        for clip_id, split in zip(corpus.clip_ids, corpus.split, strict=True)
    )
    with (run.path / "attention.csv").open() as file:
        rows = {row["clip_id"]: row for row in csv.DictReader(file)}
    assert list(rows) == usable
    for clip_id, status in zip(corpus.clip_ids, corpus.status["visual"], strict=True):
        if clip_id in rows:
            weights = [float(rows[clip_id][name]) for name in ALL]
            assert sum(weights) == pytest.approx(1, abs=1e-5)
            assert (weights[1] > 0) == (status == "ok")
    label = dict(zip(corpus.clip_ids, corpus.label.tolist(), strict=True))
    folds = run.folds()
    scored = [clip_id for clip_id in predictions.clip_ids if clip_id in folds]
    predicted = dict(zip(predictions.clip_ids, predictions.probability.argmax(axis=1), strict=True))
    expected = f1_score(
        [label[i] for i in scored], [predicted[i] for i in scored], average="weighted"
    )
    assert summary["weighted_f1"] == pytest.approx(expected)


def test_folds_trained_together_equal_each_fold_alone(train, monkeypatch):
    settings = ("epochs=5", "dropout=0.3", "modality_dropout=0.2")
    together = train(*settings, folder="together").weights()
    monkeypatch.setattr(fusion, "count_batches", lambda chosen, batch: N_BATCHES)
    for fold in range(5):
        monkeypatch.setattr(fusion, "make_lanes", only(fold))
        alone = train(*settings, folder=f"fold{fold}").weights()
        for name, tensor in alone.items():
            assert torch.allclose(together[name][fold : fold + 1], tensor, atol=1e-4), name


def only(fold):
    """Return a stand-in for `make_lanes` that gives one fold's lane alone."""
    return lambda *arguments: lanes.make_lanes(*arguments)[fold : fold + 1]


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(train):
    runs = [train(folder="a"), train(folder="b"), train("seed=1", folder="c")]
    files = [
        [(run.path / name).read_bytes() for name in ("predictions.csv", "attention.csv")]
        for run in runs
    ]
    assert files[0] == files[1]
    assert files[0][0] != files[2][0]


@pytest.mark.parametrize("more", [(), ("selection=inner", "search.draws=3")])
def test_stopped_and_resumed_equals_uninterrupted(train, monkeypatch, more):
    whole = train(*more, folder="whole")
    step, n_steps = fusion.FusionStack.step, []

    def stopping(stack, *arguments):
        n_steps.append(1)
        if len(n_steps) == 15:
            os.kill(os.getpid(), signal.SIGINT)
        return step(stack, *arguments)

    monkeypatch.setattr(fusion.FusionStack, "step", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(*more, folder="parts")
    resumed = train(*more, folder="parts")
    for name in ("predictions.csv", "attention.csv", "metrics.jsonl", "weights.safetensors"):
        assert (resumed.path / name).read_bytes() == (whole.path / name).read_bytes(), name


def test_prediction_later_is_prediction_then(train, planted):
    run = train("repeats=2")
    clips = ClipList.read(planted.clips)
    again = fusion.predict(run, Store.open(planted.store), clips, "cpu")
    assert again.clip_ids == run.predictions().clip_ids
    assert again.probability == pytest.approx(run.predictions().probability, abs=2e-6)
    few = ClipList(clips.clips[::7][::-1])
    some = fusion.predict(run, Store.open(planted.store), few, "cpu")
    known = logits_of(run)
    for clip_id, row in zip(some.clip_ids, some.probability, strict=True):
        assert np.log(row + 1e-9) == pytest.approx(known[clip_id], abs=1e-3)


def test_draws_of_a_search_equal_the_same_models_trained_alone(train):
    run = train("search.draws=6", "search.hidden=[8,16]", "epochs=3")
    draws = run.summary["draws"]
    assert [d["weighted_f1_mean"] for d in draws] == sorted(
        (d["weighted_f1_mean"] for d in draws), reverse=True
    )
    for number, draw in enumerate(draws):
        alone = train(
            *(f"{name}={draw[name]}" for name in ("hidden", "dropout", "lr")), "epochs=3",
            folder=f"alone{number}",
        )  # fmt: skip
        assert alone.summary["weighted_f1_mean"] == pytest.approx(
            draw["weighted_f1_mean"], abs=0.011
        )
    best = {name: draws[0][name] for name in ("hidden", "dropout", "lr")}
    assert run.summary["model"] == best


def test_a_search_with_an_inner_part_is_ranked_by_it(train, monkeypatch):
    settings = ("search.draws=6", "search.hidden=[8,16]", "selection=inner", "epochs=3")
    summary = train(*settings).summary
    inner = [draw["inner_f1_mean"] for draw in summary["draws"]]
    assert inner == sorted(inner, reverse=True)
    assert inner != [draw["weighted_f1_mean"] for draw in summary["draws"]]
    assert "optimistic" not in summary["draws_ranked_by"]
    rates = property(lambda stack: np.array([[v.dropout for v in stack.variants]] * 5))
    monkeypatch.setattr(fusion.FusionStack, "chosen_scores", rates)
    summary = train(*settings, folder="other").summary
    found = [draw["dropout"] for draw in summary["draws"]]
    assert found == sorted(found, reverse=True)
    assert summary["model"]["dropout"] == found[0] > found[-1]


@pytest.mark.parametrize("selection", ["last", "fold"])
def test_a_search_ranked_by_the_scored_folds_says_so_and_leaves_no_checkpoint(train, selection):
    run = train("search.draws=2", f"selection={selection}", "epochs=2")
    assert "optimistic" in run.summary["draws_ranked_by"]
    assert not list(run.path.rglob("checkpoint*"))
    assert run.path.joinpath("search", "metrics.jsonl").exists()


def test_draws_come_from_the_grid_and_the_seed():
    search = SearchSettings(draws=200)
    drawn = draw_variants(search, 3)
    assert drawn == draw_variants(search, 3) != draw_variants(search, 4)
    assert {v.hidden for v in drawn} == {64, 128, 256}
    assert {v.dropout for v in drawn} == {0.2, 0.3, 0.4, 0.5}
    assert {v.lr for v in drawn} == {1e-3, 1e-4}
    assert isinstance(drawn[0], Variant)


def test_clips_without_a_face_are_predicted_as_well_as_if_nobody_had_one(train, planted):
    settings = ("hidden=64", "epochs=40", "lr=1e-3")
    fused = train(*settings, folder="all").predictions()
    without = train("modalities=audio,text", *settings, folder="without").predictions()
    corpus = planted.corpus
    faceless = {
        clip_id: label
        for clip_id, label, status in zip(
            corpus.clip_ids, corpus.label.tolist(), corpus.status["visual"], strict=True
        )
        if status == "empty"
    }

    def score(predictions):
        of = dict(zip(predictions.clip_ids, predictions.probability.argmax(axis=1), strict=True))
        ids = [clip_id for clip_id in faceless if clip_id in of]
        return f1_score([faceless[i] for i in ids], [of[i] for i in ids], average="weighted")

    assert score(fused) > score(without) - 0.06


def test_pseudo_labels_are_trained_on_and_never_scored(train, planted, tmp_path):
    clips = ClipList.read(planted.clips)
    label = dict(zip(planted.corpus.clip_ids, planted.corpus.label.tolist(), strict=True))
    extra = [
        replace(clip, label=CLASSES[label[clip.clip_id]], confidence=0.95)
        for clip in clips.clips
        if clip.split == "unlabelled"
    ]
    ClipList(tuple(extra)).write(tmp_path / "pseudo.csv")
    plain = train()
    helped = train(f"pseudo={tmp_path / 'pseudo.csv'}")
    assert helped.path != plain.path
    assert helped.summary["n_clips"] == plain.summary["n_clips"]
    assert helped.folds() == plain.folds()
    ignored = train(f"pseudo={tmp_path / 'pseudo.csv'}", "pseudo_weight=0")
    assert not np.allclose(helped.predictions().probability, plain.predictions().probability)
    assert ignored.path != helped.path


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("modalities=audio,smell", "setting modalities"),
        ("modality_dropout=1", "setting modality_dropout"),
        ("dropout=1", "setting dropout"),
        ("audio.recipe=adapter", "no feature set fits modality=audio"),
        ("search.draws=-1", r"search\.draws"),
    ],
)
def test_what_cannot_be_trained_is_said(train, assignment, words):
    with pytest.raises(UsageError, match=words):
        train(assignment)
