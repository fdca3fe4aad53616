"""Alignment: pairs without labels are trained on, and all visual features come out aligned."""

import os
import signal

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from two_views import WIDTHS, make_two_views, write_view

from mer_store.clips.clip_list import Clip, ClipList
from mer_store.errors import UsageError
from mer_store.store.ledger import Status
from mer_store.store.store import Store
from pipelines.planted.settings import PlantedSettings
from pipelines.planted.write import make_planted
from pipelines.train import align
from pipelines.train.align_model import Aligner, recall_at
from pipelines.train.align_pairs import batches, find_pairs, values_in_order
from pipelines.train.choices import FeatureChoice
from pipelines.train.run_folder import RunFolder
from pipelines.train.settings import read_settings
from pipelines.train.trainers import TRAINERS, Job, trainer_of

HL18 = FeatureChoice(layers="18")
QUICK = {"audio": HL18, "epochs": 3, "batch": 16, "lr": 1e-3}


def settings_of(**changes):
    return align.Settings(**QUICK | changes)


def job_of(views, runs, **changes):
    return Job(views.store, views.clip_list, settings_of(**changes), runs, "cpu")


@pytest.fixture
def views(tmp_path):
    without = {"visual": ["u0010", "l0002"], "audio": ["u0011", "u0012"]}
    return make_two_views(tmp_path / "store", n_labelled=6, n_unlabelled=40, without=without)


def test_the_papers_values_are_the_defaults():
    for config in (None, "align"):
        settings = read_settings(align.Settings, config)
        assert (settings.batch, settings.lr) == (1024, 1e-4)
        assert (settings.audio.recipe, settings.audio.layers) == ("adapter", "fused")
        assert settings.visual.layers == "embed"
    assert read_settings(align.Settings, "align-hl18").audio == FeatureChoice(layers="18")
    assert trainer_of("align").Settings is align.Settings
    assert TRAINERS["align"] == align.__name__


def test_a_run_holds_recalls_chances_and_counts(views, tmp_path):
    run = align.train(job_of(views, tmp_path / "runs"))
    summary = run.summary
    assert summary["n_pairs"] == 37
    assert (summary["n_trained_on"], summary["n_held_out"]) == (35, 2)
    assert (summary["n_without_visual"], summary["n_without_audio"]) == (1, 2)
    assert (summary["chance_at_1"], summary["chance_at_10"]) == (0.5, 1.0)
    assert (summary["selection"], summary["epochs"]) == ("last", 3)
    assert not [key for key in summary if "f1" in key]
    names = {f"{way}_at_{k}" for way in ("video_to_audio", "audio_to_video") for k in (1, 10)}
    last = run.metrics()[-1]
    assert last.keys() == {"epoch", "loss", "temperature", *names}
    assert {name: summary[name] for name in names} == {name: last[name] for name in names}
    assert [item["modality"] for item in run.inputs] == ["visual", "audio"]


def test_clips_without_a_face_or_speech_are_never_trained_on(views):
    pairs = find_pairs(views.store, views.clip_list, settings_of())
    expected = [name for name in views.clip_ids if name[0] == "u"]
    expected = [name for name in expected if name not in ("u0010", "u0011", "u0012")]
    assert list(pairs.visual.clip_ids) == list(pairs.audio.clip_ids) == expected
    assert sorted([*pairs.train, *pairs.held_out]) == list(range(37))
    for features, layer in ((pairs.visual, "embed"), (pairs.audio, 18)):
        stored = features.feature_set.read([layer], expected)[:, 0]
        assert np.array_equal(values_in_order(features), stored)
        assert np.abs(stored).sum(axis=1).min() > 0


def test_labelled_clips_join_only_when_asked(views):
    pairs = find_pairs(views.store, views.clip_list, settings_of(labelled_too=True))
    assert [name for name in pairs.visual.clip_ids if name[0] == "l"] == [
        "l0000", "l0001", "l0003", "l0004", "l0005"
    ]  # fmt: skip


def test_predicted_labels_and_the_test_set_count_as_unlabelled(views):
    clips = [
        Clip("l0000", label="anger", confidence=0.9),
        Clip("l0001", label="anger", split="test"),
        Clip("l0003", label="anger"),
        *views.clip_list.clips[6:],
    ]
    pairs = find_pairs(views.store, ClipList(tuple(clips)), settings_of())
    assert [name for name in pairs.visual.clip_ids if name[0] == "l"] == ["l0000", "l0001"]


def test_who_has_a_label_decides_the_run(views, tmp_path):
    run = align.train(job_of(views, tmp_path / "runs"))
    clips = list(views.clip_list.clips)
    clips[20] = Clip(clips[20].clip_id, label="anger", split="labelled")
    job = Job(views.store, ClipList(tuple(clips)), settings_of(), tmp_path / "runs", "cpu")
    assert align.train(job).path != run.path


@pytest.mark.parametrize("n_clips", [4, 5, 6, 7, 8, 9, 64, 65])
def test_batches_take_every_clip_once_and_none_alone(n_clips):
    rows = np.arange(100, 100 + n_clips)
    found = list(batches(rows, settings_of(batch=4), epoch=1))
    assert sorted(np.concatenate(found).tolist()) == rows.tolist()
    sizes = [len(piece) for piece in found]
    assert max(sizes) <= 4
    assert min(sizes) >= 2
    assert max(sizes) - min(sizes) <= 1
    other = np.concatenate(list(batches(rows, settings_of(batch=4), epoch=2)))
    assert n_clips < 6 or other.tolist() != np.concatenate(found).tolist()


def test_training_finds_the_audio_of_held_out_images(tmp_path):
    views = make_two_views(tmp_path / "store", n_unlabelled=1200)
    changes = {"epochs": 12, "batch": 128, "held_out": 0.1}
    summary = align.train(job_of(views, tmp_path / "runs", **changes)).summary
    assert summary["n_held_out"] == 120
    for way in ("video_to_audio", "audio_to_video"):
        assert summary[f"{way}_at_1"] > 10 * summary["chance_at_1"]
        assert summary[f"{way}_at_10"] > 6 * summary["chance_at_10"]
    assert summary["temperature"] != pytest.approx(0.07, abs=1e-4)
    untrained = Aligner(WIDTHS["visual"], WIDTHS["audio"], WIDTHS["audio"])
    assert recall_of(untrained, views) < 0.3


def recall_of(model, views):
    """Recall@10 of 100 clips."""
    import torch

    from pipelines.train.align_model import cosines

    ids = views.clip_ids[:100]
    audio = views.store.features("audio").read([18], ids)[:, 0]
    images = torch.from_numpy(views.visual.read(["embed"], ids)[:, 0])
    with torch.no_grad():
        return recall_at(cosines(model.align(images), model.audio(torch.from_numpy(audio))), 10)


def test_alignment_on_many_pairs_improves_a_classifier_trained_on_few_labels(tmp_path):
    gains = []
    for seed in range(3):
        planted = make_planted(
            tmp_path / f"planted{seed}",
            PlantedSettings(
                seed=seed, n_unlabelled=12000, audio_layers=(18,), text_layers=(40,), frames=False
            ),
        )
        store = Store.open(planted.store)
        changes = {"epochs": 10, "batch": 256, "hidden": 128, "seed": seed}
        clip_list = ClipList.read(planted.clips)
        align.train(Job(store, clip_list, settings_of(**changes), tmp_path / "runs", "cpu"))
        label = dict(zip(planted.corpus.clip_ids, planted.corpus.label.tolist(), strict=True))
        ids = [clip.clip_id for clip in clip_list.clips if clip.split == "labelled"]
        raw, aligned = (
            visual_f1(store.features("visual", recipe=recipe), label, ids)
            for recipe in ("default", "aligned")
        )
        gains.append(aligned - raw)
    assert np.mean(gains) > 0.07
    assert min(gains) > 0


def visual_f1(features, label, clip_ids, n_train=60):
    """Weighted F1 of a linear classifier that saw few labelled clips."""
    there = set(features.clip_ids)
    seen = [clip_id for clip_id in clip_ids if clip_id in there]
    x = features.read(features.layers, seen, np.float32)[:, 0]
    y = np.array([label[clip_id] for clip_id in seen])
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    classifier.fit(x[:n_train], y[:n_train])
    return f1_score(y[n_train:], classifier.predict(x[n_train:]), average="weighted")


def test_all_visual_clips_come_out_aligned_as_the_saved_model_says(views, tmp_path):
    import torch

    run = align.train(job_of(views, tmp_path / "runs"))
    found = views.store.features("visual", recipe="aligned")
    assert (found.name, found.layers) == (run.summary["feature_set"], ("aligned",))
    assert found.clip_ids == views.visual.clip_ids
    assert {"l0000", "u0011"} < set(found.clip_ids)  # labelled; without speech
    model = Aligner.of_weights(run.weights())
    images = views.visual.read(["embed"], dtype=np.float32)[:, 0]
    expected = model.align(torch.from_numpy(images)).detach().numpy().astype(np.float16)
    assert np.array_equal(found.read(["aligned"])[:, 0], expected)
    assert (expected > 0).mean() > 0.2


def test_the_ledger_and_the_spec_say_where_aligned_features_come_from(views, tmp_path):
    run = align.train(job_of(views, tmp_path / "runs"))
    found = views.store.features("visual", recipe="aligned")
    base, audio = views.visual, views.store.features("audio")
    ids = ["u0010", "l0002", "u0020"]
    ledger = found.ledger(ids)
    assert ledger.status.tolist() == [Status.EMPTY, Status.EMPTY, Status.OK]
    assert ledger.reasons == ["no visual in it"] * 2 + [None]
    assert ledger.digest.tolist() == base.ledger(ids).digest.tolist()
    assert ledger.mtime_ns.tolist() == base.ledger(ids).mtime_ns.tolist()
    spec = found.spec
    assert (spec.model, spec.weights, spec.trained) == ("visual-model", "sha256:0", False)
    assert (spec.recipe, spec.stored_dtype) == ("aligned", "float16")
    assert spec.preprocessing == {
        **base.spec.preprocessing,
        "aligned": {
            "digest": Aligner.of_weights(run.weights()).digest(),
            "base": base.spec.fingerprint,
            "layers": ["embed"],
            "audio": audio.spec.fingerprint,
        },
    }


def test_a_finished_run_is_found_and_derives_only_what_is_new(views, tmp_path):
    run = align.train(job_of(views, tmp_path / "runs"))
    written = (run.path / "summary.json").stat().st_mtime_ns
    found = views.store.features("visual", recipe="aligned")
    assert align.train(job_of(views, tmp_path / "runs")).path == run.path
    assert (run.path / "summary.json").stat().st_mtime_ns == written
    assert len(found.part_ids()) == 1

    row = np.ones(WIDTHS["visual"])
    write_view(views.store, "visual", {"new": row})  # not in the clip list
    changed = {"l0000": row}
    write_view(views.store, "visual", changed, attempt=1, media="changed")
    before = found.read(["aligned"], ["l0000"])
    assert align.train(job_of(views, tmp_path / "runs")).path == run.path
    found = views.store.features("visual", recipe="aligned")
    new, again = found.read(["aligned"], ["new", "l0000"])
    assert np.array_equal(new, again)
    assert not np.array_equal(again, before[0])
    assert found.ledger(["l0000"]).digest[0] == views.visual.ledger(["l0000"]).digest[0]
    assert len(found.part_ids()) == 2


def test_derive_can_be_told_the_clips(views, tmp_path):
    run = align.train(job_of(views, tmp_path / "runs"))
    write_view(views.store, "visual", {name: np.ones(WIDTHS["visual"]) for name in ("n1", "n2")})
    found = align.derive(run, views.store, ClipList((Clip("n2"),)), "cpu")
    assert found.ledger(["n1", "n2"]).status.tolist() == [Status.MISSING, Status.OK]


def test_the_same_seed_gives_the_same_bytes(views, tmp_path):
    run, again = (align.train(job_of(views, tmp_path / name)) for name in ("runs", "again"))
    for name in ("weights.safetensors", "metrics.jsonl", "config.toml"):
        assert (run.path / name).read_bytes() == (again.path / name).read_bytes()
    other = align.train(job_of(views, tmp_path / "runs", seed=1))
    assert other.summary["fingerprint"] != run.summary["fingerprint"]


def test_stopped_and_resumed_equals_uninterrupted(views, tmp_path, monkeypatch):
    whole = align.train(job_of(views, tmp_path / "whole", epochs=4))
    recall = align.recall_at
    n_calls = 0

    def interrupt(similarity, k):
        nonlocal n_calls
        n_calls += 1
        if n_calls == 5:  # four an epoch
            os.kill(os.getpid(), signal.SIGINT)
        return recall(similarity, k)

    monkeypatch.setattr(align, "recall_at", interrupt)
    with pytest.raises(KeyboardInterrupt):
        align.train(job_of(views, tmp_path / "parts", epochs=4))
    (path,) = (tmp_path / "parts").iterdir()
    assert len((path / "metrics.jsonl").read_text().splitlines()) == 2
    run = align.train(job_of(views, tmp_path / "parts", epochs=4))
    assert n_calls == 16
    for name in ("weights.safetensors", "metrics.jsonl"):
        assert (run.path / name).read_bytes() == (whole.path / name).read_bytes()


def test_settings_reach_the_model(views, tmp_path):
    run = align.train(
        job_of(
            views, tmp_path / "runs", hidden=7, standardise=False, temperature_start=0.5, epochs=1
        )
    )
    weights = run.weights()
    assert weights["mlp.w2"].shape == (7, WIDTHS["visual"])
    assert weights["mlp.w1"].shape == (WIDTHS["audio"], 7)
    assert weights["visual.scale"].tolist() == [1.0] * WIDTHS["visual"]
    assert run.summary["temperature"] == pytest.approx(0.5, abs=0.02)


def test_the_temperature_falls_no_lower_than_clips_limit(views, tmp_path, monkeypatch):
    limit = Aligner.limit_temperature

    def cool(model):  # as a step would that went much too far
        torch.nn.init.constant_(model.log_scale, 9.0)
        limit(model)

    monkeypatch.setattr(Aligner, "limit_temperature", cool)
    run = align.train(job_of(views, tmp_path / "runs", epochs=2))
    assert [entry["temperature"] for entry in run.metrics()] == pytest.approx([0.01, 0.01])


def test_predict_says_what_align_makes(views, tmp_path):
    run = RunFolder.open(align.train(job_of(views, tmp_path / "runs")).path)
    with pytest.raises(UsageError, match=r"makes features, not predictions.*--config clipl-a"):
        align.predict(run, views.store, views.clip_list, "cpu")


def test_without_adapted_features_it_says_what_to_do(views, tmp_path):
    job = Job(views.store, views.clip_list, align.Settings(), tmp_path / "runs", "cpu")
    with pytest.raises(UsageError) as caught:
        align.train(job)
    text = str(caught.value)
    for words in (
        "no feature set fits",
        "mer-store extract --modality audio --adapter RUN",
        "--config align-hl18",
        "--set audio.recipe=default --set audio.layers=18",
    ):
        assert words in text
    with pytest.raises(UsageError) as caught:
        align.train(job_of(views, tmp_path / "runs", audio=FeatureChoice(layers="17")))
    assert "adapter" not in str(caught.value)


def test_too_few_pairs_and_no_unlabelled_clips_are_said(views, tmp_path):
    few = ClipList(views.clip_list.clips[:13])  # seven unlabelled
    with pytest.raises(
        UsageError, match=r"of 7 clips without a label have both.*expected 8 or more"
    ):
        align.train(Job(views.store, few, settings_of(), tmp_path / "runs", "cpu"))
    labelled = ClipList(views.clip_list.clips[:6])
    with pytest.raises(UsageError, match="labelled_too=true"):
        align.train(Job(views.store, labelled, settings_of(), tmp_path / "runs", "cpu"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("held_out", 0.0),
        ("held_out", 0.6),
        ("epochs", 0),
        ("batch", 3),
        ("hidden", -1),
        ("temperature_start", 0.001),
    ],
)
def test_settings_that_cannot_be_trained_with_are_refused(name, value):
    with pytest.raises(UsageError, match=f"setting {name}: expected"):
        align.Settings(**{name: value})
