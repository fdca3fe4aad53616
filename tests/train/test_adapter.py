"""The adapter trainer: what it learns, what it leaves, what it does not depend on, what it refuses."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from checkpoint_factory import save_hubert
from part_factory import digest_of, make_set
from sklearn.metrics import f1_score

from extractors.models.adapter import fuse, load_blocks, pool
from extractors.models.saved_adapter import load_adapter
from extractors.models.speech import open_model
from mer_store.clips.clip import Clip
from mer_store.clips.clip_list import ClipList
from mer_store.errors import UsageError
from mer_store.store.store import Store
from mer_store.store.writer import ClipRows, PartWriter
from pipelines.train import adapter, adapter_lane
from pipelines.train.adapter_data import CachedStates, open_states
from pipelines.train.choices import FeatureChoice
from pipelines.train.folds import read_folds
from pipelines.train.run_folder import RunFolder
from pipelines.train.settings import read_settings
from pipelines.train.trainers import TRAINERS, Job, trainer_of

CLASSES = ("neutral", "anger", "happiness")
N_LABELLED, N_UNLABELLED, WIDTH, FIRST = 60, 8, 32, 3
POOLED = (3, 4, 5, 6)
QUICK = {
    "classes": CLASSES, "layers": "4-6", "start_layer": 5, "bottleneck": 8, "epochs": 3, "n_folds": 2,
    "lr": 3e-3, "layer_lr": 3e-3, "frames": FeatureChoice(layers=str(FIRST)),
}  # fmt: skip
BYTES = (
    "predictions.csv", "weights.safetensors", "metrics.jsonl", "config.toml", "folds.csv",
    "adapter.json", "adapter.safetensors", "refit/metrics.jsonl",
)  # fmt: skip


def write_frames(store, weights, clips, n_clips=None, **changes):
    """Frames whose mean over time shows the class, and pooled layers that show it too."""
    rng = np.random.default_rng(0)
    means = 1.5 * rng.standard_normal((len(CLASSES), WIDTH))
    spec = {"model": "hubert", "weights": weights, **changes}
    for level, layers in (("frame", (FIRST,)), ("utterance", POOLED)):
        with PartWriter(make_set(store, level, **spec), layers) as writer:
            for number, clip in enumerate(clips[:n_clips]):
                label = CLASSES.index(clip.label) if clip.label else number % len(CLASSES)
                n_rows = int(rng.integers(3, 9)) if level == "frame" else 1
                rows = means[label] + 2.0 * rng.standard_normal((n_rows, WIDTH))
                values = {layer: (rows + 0.1 * layer).astype(np.float32) for layer in layers}
                writer.add(
                    ClipRows(clip.clip_id, "ok", digest=digest_of(clip.clip_id), layers=values)
                )
            writer.add(ClipRows("silent", "empty", "no speech", digest_of("silent")))
            writer.commit()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A store with frames and pooled layers, its clips, and the model that (as it says) made them."""
    folder = tmp_path_factory.mktemp("corpus")
    model = save_hubert(folder / "hubert")
    labelled = [
        Clip(f"clip{n:03}", label=CLASSES[n % len(CLASSES)], split="labelled")
        for n in range(N_LABELLED)
    ]
    others = [Clip(f"other{n}", split="unlabelled") for n in range(N_UNLABELLED)]
    silent = Clip("silent", label="anger", split="labelled")
    write_frames(folder / "store", open_model(str(model)).weights, [*labelled, *others])
    return folder / "store", ClipList((*labelled, silent, *others)), str(model)


@pytest.fixture
def train(corpus, tmp_path):
    def run(folder="runs", store=None, clips=None, **changes):
        settings = adapter.Settings(**{**QUICK, "model": corpus[2], **changes})
        job = Job(
            Store.open(store or corpus[0]), clips or corpus[1], settings, tmp_path / folder, "cpu"
        )
        return adapter.train(job)

    return run


def same_bytes(run, other):
    return [(run.path / name).read_bytes() == (other.path / name).read_bytes() for name in BYTES]


def predict(run, corpus, clips=None):
    return adapter.predict(
        RunFolder.open(run.path), Store.open(corpus[0]), clips or corpus[1], "cpu"
    )


@pytest.mark.parametrize("site", ["blocks", "outputs"])
def test_it_learns_and_leaves_what_every_run_leaves(train, corpus, site):
    run = train(site=site, epochs=8)
    summary = run.summary
    assert summary["weighted_f1_mean"] > 0.7, "a third of the clips is in each class"
    assert summary["n_clips"] == N_LABELLED
    assert summary["n_without_features"] == 1
    assert (summary["selection"], summary["seed"]) == ("last", 0)
    assert (summary["epochs_chosen"], summary["epochs_of_refit"]) == ([7, 7], 8)
    assert summary["elapsed_s"] > 0
    assert [entry["layer"] for entry in summary["layer_weights"]] == [4, 5, 6]
    means = [entry["mean"] for entry in summary["layer_weights"]]
    assert means[1] > 0.5 > max(abs(means[0]), abs(means[2])) > 0
    assert summary["adapter"] == load_adapter(run.path).digest
    entries = run.metrics()
    assert [entry["epoch"] for entry in entries] == list(range(8))
    for entry in entries:
        assert entry["loss"] == pytest.approx(entry["loss_ce"] + entry["loss_mlm"])
        assert len(entry["layer_weights"]) == 3
    assert entries[-1]["loss_ce"] < 0.75 * entries[0]["loss_ce"]
    assert not list(run.path.rglob("checkpoint*"))
    predictions = run.predictions()
    listed = [clip.clip_id for clip in corpus[1].clips if clip.clip_id != "silent"]
    assert list(predictions.clip_ids) == listed
    label = [clip.label for clip in corpus[1].clips[:N_LABELLED]]
    score = f1_score(label, predictions.labels[:N_LABELLED], average="weighted")
    assert score == pytest.approx(summary["weighted_f1"])
    assert TRAINERS["adapter"] == adapter.__name__
    assert trainer_of("adapter").Settings is adapter.Settings


def test_pooled_caches_alone_serve_the_outputs_site(corpus, train, tmp_path):
    store = Store.create(tmp_path / "pooled")
    weights = open_model(corpus[2]).weights
    clips = corpus[1].clips
    write_frames(tmp_path / "pooled", weights, [clip for clip in clips if clip.clip_id != "silent"])
    for feature_set in store.feature_sets():
        if feature_set.spec.level == "frame":
            feature_set.path.rename(tmp_path / "frames")
    run = train(store=tmp_path / "pooled", site="outputs", model="")
    facts = load_adapter(run.path).facts
    assert (facts.site, facts.layers, facts.width, facts.model) == (
        "outputs",
        (4, 5, 6),
        WIDTH,
        "hubert",
    )
    assert facts.base_spec["level"] == "utterance"
    assert adapter.predict(run, store, corpus[1], "cpu").clip_ids == run.predictions().clip_ids
    command = f"mer-store extract --modality audio --layers 4-6 --frame-layers {FIRST}"
    with pytest.raises(UsageError, match=rf"level=frame(.|\n)*{command}(.|\n)*site=outputs"):
        train(store=tmp_path / "pooled")


def test_the_same_seed_gives_the_same_bytes(train):
    run, again, other = train(), train("again"), train(seed=1)
    assert same_bytes(run, again) == [True] * len(BYTES)
    assert run.path.name != other.path.name
    assert not np.allclose(run.predictions().probability, other.predictions().probability)
    written = (run.path / "summary.json").stat().st_mtime_ns
    assert train().path == run.path
    assert (run.path / "summary.json").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("selection", "at_step", "n_left"),
    [("last", 2, 20), ("inner", 2, None), ("last", 14, 8)],
    ids=["folds", "inner", "refit"],
)
def test_stopped_and_resumed_equals_uninterrupted(train, monkeypatch, selection, at_step, n_left):
    """Two folds of 30 clips take 4 steps an epoch, the refit of 60 clips 4 again: 12, then 12."""
    whole = train("whole", selection=selection)
    step, n_steps = adapter_lane.AdapterLane.step, 0

    def interrupt(*arguments):
        nonlocal n_steps
        n_steps += 1
        if n_steps == at_step:
            os.kill(os.getpid(), signal.SIGINT)
        return step(*arguments)

    monkeypatch.setattr(adapter_lane.AdapterLane, "step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train("parts", selection=selection)
    checkpoints = (whole.path.parents[1] / "parts").rglob("checkpoint.safetensors")
    assert (adapter.REFIT in {path.parent.name for path in checkpoints}) == (at_step > 12)
    n_steps = 1000
    run = train("parts", selection=selection)
    assert n_left in (None, n_steps - 1000)
    assert same_bytes(run, whole) == [True] * len(BYTES)
    assert {**run.summary, "elapsed_s": 0, "finished_at": 0} == {
        **whole.summary, "elapsed_s": 0, "finished_at": 0,
    }  # fmt: skip
    assert not list(run.path.rglob("checkpoint*"))


def test_selection_inner_never_looks_at_the_scored_fold(train, corpus):
    given = {"selection": "inner", "epochs": 4}
    run = train(**given)
    folds = read_folds(run.path / "folds.csv")
    wrong = tuple(
        replace(clip, label="anger" if clip.label != "anger" else "neutral")
        if folds.get(clip.clip_id) == 0
        else clip
        for clip in corpus[1].clips
    )
    other = train(clips=ClipList(wrong), folds=str(run.path / "folds.csv"), **given)
    assert other.summary["epochs_chosen"][0] == run.summary["epochs_chosen"][0]
    place = [row for row, name in enumerate(run.predictions().clip_ids) if folds.get(name) == 0]
    assert len(place) >= 30
    ours, theirs = (one.predictions().probability[place] for one in (run, other))
    assert np.array_equal(ours, theirs)
    assert [entry["epoch"] for entry in run.metrics() if 0 <= entry["weighted_f1"] <= 1] == [
        0,
        1,
        2,
        3,
    ]
    chosen = run.summary["epochs_chosen"]
    assert run.summary["epochs_of_refit"] == round(np.median(chosen) + 1)


@pytest.mark.parametrize("selection", ["last", "inner", "fold"])
def test_the_last_training_sees_each_labelled_clip_once_an_epoch(
    train, corpus, monkeypatch, selection
):
    lanes, batches = [], adapter_lane.AdapterLane.batches

    def keep(self, epoch):
        cut = batches(self, epoch)
        lanes.append((self.lane.fold, np.concatenate(cut).tolist()))
        return cut

    monkeypatch.setattr(adapter_lane.AdapterLane, "batches", keep)
    run = train(selection=selection)
    seen = [rows for fold, rows in lanes if fold == 2]
    assert len(seen) == run.summary["epochs_of_refit"]
    assert [sorted(rows) for rows in seen] == [list(range(N_LABELLED))] * len(seen)
    folds = read_folds(run.path / "folds.csv")
    for fold, rows in lanes:
        ids = [corpus[1].clips[row].clip_id for row in rows]
        assert fold == 2 or fold not in {folds[clip_id] for clip_id in ids}


def test_the_saved_adapter_gives_the_features_of_the_last_training(train, corpus, monkeypatch):
    fitted, fit = [], adapter._fit

    def keep(*arguments):
        models, elapsed_s = fit(*arguments)
        fitted.append([model.model for model in models])
        return models, elapsed_s

    monkeypatch.setattr(adapter, "_fit", keep)
    run = train()
    folds, [final] = fitted
    assert len(folds) == 2
    saved = load_adapter(run.path)
    frozen = load_blocks(open_model(corpus[2]), saved.facts.first, max(saved.facts.layers))
    values = Store.open(corpus[0]).features("audio", level="frame")
    clips = values.ragged([FIRST], ["clip000", "clip001", "other3"], np.float32)
    for clip in clips:
        x = torch.from_numpy(np.ascontiguousarray(clip[:, 0]))[None]
        with torch.no_grad():
            states = saved.in_blocks(frozen)(x)
            pooled = torch.stack([pool(states[layer], None) for layer in saved.facts.layers], dim=1)
            fused = fuse(saved.layer_weights, pooled)
            assert torch.equal(fused, final(x, None).fused)
            assert not torch.allclose(fused, folds[0](x, None).fused, atol=1e-4)
    assert run.weights().keys() == {
        f"lane{lane}.{name}" for lane in range(2) for name in final.state_dict()
    }


@pytest.mark.parametrize("site", ["blocks", "outputs"])
def test_predict_gives_what_training_wrote_whatever_the_list(train, corpus, site):
    run = train(site=site)
    written, again = run.predictions(), predict(run, corpus)
    assert again.clip_ids == written.clip_ids
    assert again.probability == pytest.approx(written.probability, abs=2e-6)
    some = ClipList(tuple(replace(clip, label=None, split=None) for clip in corpus[1].clips[::-7]))
    few = predict(run, corpus, some)
    rows = [written.clip_ids.index(clip_id) for clip_id in few.clip_ids]
    assert len(rows) == len(some.clips) > 8
    assert few.probability == pytest.approx(written.probability[rows], abs=1e-5)


def test_predicting_only_labelled_clips(train):
    every, labelled = train(), train(predict="labelled")
    n = len(labelled.predictions().clip_ids)
    assert n == N_LABELLED < len(every.predictions().clip_ids)
    assert labelled.predictions().probability == pytest.approx(
        every.predictions().probability[:n], abs=1e-5
    )


def test_predict_reads_the_set_it_was_trained_on(train, corpus, tmp_path):
    store, weights = tmp_path / "store", open_model(corpus[2]).weights
    clips = [clip for clip in corpus[1].clips if clip.clip_id != "silent"]
    write_frames(store, weights, clips)
    run = train(store=store)
    write_frames(store, weights, clips, 5, preprocessing={"sampling_hz": 8000})
    with pytest.raises(UsageError, match="several") as error:
        train("again", store=store)
    assert "extract" not in str(error.value), "the frames are there"
    again = adapter.predict(run, Store.open(store), corpus[1], "cpu")
    assert again.clip_ids == run.predictions().clip_ids


def test_placement_mask_and_target_are_settings_that_count(train):
    plain = train(epochs=1)
    for changes in (
        {"placement": "attention"}, {"placement": "feed_forward"}, {"masked_share": 0.5},
        {"detach_target": True},
    ):  # fmt: skip
        other = train(epochs=1, **changes)
        assert load_adapter(other.path).digest != load_adapter(plain.path).digest
    assert load_adapter(train(epochs=1, placement="attention").path).facts.placement == "attention"


def test_each_batch_of_each_epoch_and_fold_has_a_mask_of_its_own(train, monkeypatch):
    masks, forward = [], adapter.AdapterModel.forward

    def keep(self, x, real, masked=None):
        if self.training and masked is not None:
            masks.append(masked)
        return forward(self, x, real, masked)

    monkeypatch.setattr(adapter.AdapterModel, "forward", keep)
    train(epochs=2, masked_share=0.25)
    assert len(masks) == 2 * 4 + 2 * 4
    assert len({mask[:8].numpy().tobytes() for mask in masks}) == len(masks)
    share = torch.cat(masks).float().mean()
    assert 0.22 < share < 0.28


def test_states_are_padded_with_a_mask(corpus):
    store, clips, _ = corpus
    ids = tuple(clip.clip_id for clip in clips.clips)
    roster = adapter.read_roster(clips, adapter.Settings(**QUICK))
    features = open_states(Store.open(store), roster, adapter.Settings(**QUICK))
    states = CachedStates(features, torch.device("cpu"))
    cut = states.by_length(np.arange(N_LABELLED), 7)
    assert np.array_equal(np.sort(np.concatenate(cut)), np.arange(N_LABELLED))
    read = Store.open(store).features("audio", level="frame")
    longest = []
    for rows, x, real in states.batches(cut):
        clips = read.ragged([FIRST], [ids[row] for row in rows], np.float32)
        lengths = [len(clip) for clip in clips]
        longest.append(max(lengths))
        assert x.shape == (len(rows), max(lengths), WIDTH)
        assert real is not None or min(lengths) == max(lengths)
        for row, (clip, n) in enumerate(zip(clips, lengths, strict=True)):
            assert np.array_equal(x[row, :n].numpy(), clip[:, 0])
            assert not x[row, n:].any()
            assert real is None or real[row].tolist() == [i < n for i in range(max(lengths))]
    assert longest == sorted(longest)
    assert longest[0] < longest[-1]


# What is refused.


def test_other_weights_than_the_caches_are_refused(train, tmp_path):
    other = save_hubert(tmp_path / "other", seed=1)
    with pytest.raises(UsageError, match=r"has weights sha256:(.|\n)*the same checkpoint"):
        train(model=str(other))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": ""}, "setting model: the cache was made by hubert; pass its hub name or folder"),
        (
            {"frames": FeatureChoice(layers="2")},
            r"no layer 2(.|\n)*extract .*--frame-layers 2 --model",
        ),
        ({"frames": FeatureChoice(layers="")}, None),
        ({"layers": "3-6"}, "no layer 3; the model has 4-6"),
        ({"layers": "4-7"}, "no layer 7; the model has 4-6"),
        ({"site": "outputs", "layers": "4-7"}, "no layer 7"),
        ({"frames": FeatureChoice(layers="3", recipe="mertools2024")}, "mertools2024|recipe"),
    ],
)
def test_what_cannot_be_trained_is_a_clear_error(train, changes, words):
    if words is None:  # the set has one layer: no need to name it
        assert train(epochs=1, **changes).finished
        return
    with pytest.raises(UsageError, match=words):
        train(**changes)


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("site=roof", "site: expected blocks or outputs; got 'roof'"),
        ("placement=roof", "placement: expected output or attention or feed_forward"),
        ("masked_share=1.0", "masked_share: expected from 0 to below 1"),
        ("bottleneck=0", "expected 1 or more"),
        ("pooled.layers=4", "pooled.layers: expected nothing"),
        ("botleneck=4", "did you mean bottleneck"),
    ],
)
def test_settings_that_cannot_be_trained_with_are_refused(assignment, words):
    with pytest.raises(UsageError, match=words):
        read_settings(adapter.Settings, None, [assignment])


def test_sums_of_layers_have_no_adapters(train, corpus, tmp_path):
    feature_set = make_set(tmp_path / "store", "utterance", model="hubert")
    with PartWriter(feature_set, ("last4sum",)) as writer:
        for clip in corpus[1].clips:
            row = np.ones((1, WIDTH), np.float32)
            digest = digest_of(clip.clip_id)
            writer.add(ClipRows(clip.clip_id, "ok", digest=digest, layers={"last4sum": row}))
        writer.commit()
    with pytest.raises(UsageError, match="expected numbers, such as 16-21; got last4sum"):
        train(store=tmp_path / "store", site="outputs", layers="last4sum")


@pytest.mark.parametrize(("name", "layers"), [("hlft18", "18"), ("hlft16-21", "16-21")])
def test_configs_are_the_papers_rows(name, layers):
    settings = read_settings(adapter.Settings, name)
    assert (settings.name, settings.layers, settings.frames.layers) == (name, layers, "15")
    assert (settings.start_layer, settings.bottleneck, settings.batch) == (18, 128, 16)
    assert (settings.lr, settings.weight_decay) == (1e-4, 0.02)
    assert (settings.site, settings.placement) == ("blocks", "output")
