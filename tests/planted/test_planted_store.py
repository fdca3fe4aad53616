"""A planted corpus on disk: its store, its ledger, its clip list, and the demo that makes one."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import f1_score

from mer_store.cli.main import cli
from mer_store.clips.clip_list import ClipList
from mer_store.clips.words import CLASSES
from mer_store.errors import UsageError
from mer_store.store.ledger import Status
from mer_store.store.store import Store
from pipelines.planted.corpus import FAILED_REASON
from pipelines.planted.features import projection
from pipelines.planted.settings import PlantedSettings
from pipelines.planted.write import make_planted

SMALL = PlantedSettings(
    n_labelled=120, n_unlabelled=80, n_test=30, audio_layers=(17, 18), text_layers=(39, 40),
    frames=False, no_face=0.2, part_clips=64,
)  # fmt: skip


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return make_planted(tmp_path_factory.mktemp("planted"), SMALL)


def features(planted, modality="audio", recipe="default"):
    sets = Store.open(planted.store).feature_sets()
    return next(
        item for item in sets if (item.spec.modality, item.spec.recipe) == (modality, recipe)
    )


def file_digests(planted):
    """Size and SHA-256 of every file of every part, by feature set and part."""
    return {
        (feature_set.name, record.part_id): {
            path: (facts.n_bytes, facts.sha256) for path, facts in record.files.items()
        }
        for feature_set in Store.open(planted.store).feature_sets()
        for record in feature_set.records()
    }


def test_the_ledger_says_what_each_clip_lacks(planted):
    corpus = planted.corpus
    reasons = {"audio": "no audio track", "visual": "no face", "text": "empty transcript"}
    for modality, reason in reasons.items():
        ledger = features(planted, modality).ledger(corpus.clip_ids)
        status = [Status(number).name.lower() for number in ledger.status]
        assert status == corpus.status[modality].tolist()
        given = dict(zip(status, ledger.reasons, strict=True))
        assert given == {"ok": None, "empty": reason, "failed": FAILED_REASON}
        assert status.count("failed") == 2
    lacks = np.array([corpus.status[modality] != "ok" for modality in reasons])
    failed = corpus.status["audio"] == "failed"
    assert not lacks[:, ~failed].all(axis=0).any(), "a clip that did not fail shows something"
    assert 20 < lacks[1].sum() < 60


def test_stored_rows_carry_the_signal(planted):
    for (modality, layer), shown in planted.corpus.shown.items():
        feature_set = features(planted, modality)
        there = np.flatnonzero(planted.corpus.status[modality] == "ok")
        ids = [planted.corpus.clip_ids[row] for row in there]
        rows = feature_set.read(layers=[layer], clip_ids=ids)[:, 0]
        assert rows.shape == (len(ids), SMALL.width(modality))
        measured = projection(SMALL, modality).shown(rows)
        assert measured == pytest.approx(shown[there], abs=0.02), "to float16's rounding"
    summed = features(planted, recipe="mertools2024")
    audio = features(planted).read(layers=[17, 18], clip_ids=summed.clip_ids).astype(float)
    got = summed.read(layers=["last4sum"], clip_ids=summed.clip_ids)[:, 0]
    assert got == pytest.approx(audio.sum(axis=1), abs=0.02)


def test_the_clip_list_shows_labels_of_labelled_clips_only(planted, tmp_path):
    clips = ClipList.read(planted.clips).clips
    corpus = planted.corpus
    assert tuple(clip.clip_id for clip in clips) == corpus.clip_ids
    splits = [clip.split for clip in clips]
    assert [splits.count(name) for name in ("labelled", "unlabelled", "test")] == [120, 50, 30]
    true = [CLASSES[number] for number in corpus.label]
    for clip, label in zip(clips, true, strict=True):
        assert clip.label == (label if clip.split == "labelled" else None)
    told = make_planted(tmp_path, replace(SMALL, show_test_labels=True))
    for clip, label in zip(ClipList.read(told.clips).clips, true, strict=True):
        assert clip.label == (None if clip.split == "unlabelled" else label)
    assert file_digests(told) == file_digests(planted), "labels never enter the store"


def test_same_seed_same_bytes_other_seed_other_bytes(planted, tmp_path):
    again, other = tmp_path / "again", tmp_path / "other"
    digests = file_digests(planted)
    assert len(digests) == 4 * 4, "four feature sets of 200 clips in parts of 64"
    made = make_planted(again, SMALL)
    assert file_digests(made) == digests
    for name in ("clips.csv", "oracle.json", "ABOUT.txt"):
        assert (again / name).read_bytes() == (planted.folder / name).read_bytes()
    changed = make_planted(other, replace(SMALL, seed=1))
    assert not digests.keys() & file_digests(changed).keys()
    assert changed.clips.read_bytes() != planted.clips.read_bytes()
    names = [{item.name for item in Store.open(it.store).feature_sets()} for it in (made, changed)]
    assert not names[0] & names[1], "another seed has another fingerprint"


def test_the_size_of_parts_changes_no_number(planted, tmp_path):
    whole = make_planted(tmp_path, replace(SMALL, part_clips=16384))
    ids = features(planted).clip_ids
    one, many = (features(it).read(layers=[18], clip_ids=ids) for it in (whole, planted))
    assert np.array_equal(one, many)
    assert features(whole).spec == features(planted).spec
    assert len(file_digests(whole)) == 4


def test_made_twice_is_made_once_and_other_settings_are_refused(tmp_path):
    few = replace(SMALL, n_labelled=20, n_unlabelled=4, n_test=2)
    first = file_digests(make_planted(tmp_path, few))
    assert file_digests(make_planted(tmp_path, few)) == first
    with pytest.raises(UsageError, match=r"made with other settings; .* another folder"):
        make_planted(tmp_path, replace(few, tau=0.6))
    assert file_digests(make_planted(tmp_path, few)) == first


@pytest.mark.parametrize("name", ["clips.csv", "store"])
def test_files_of_somebody_else_are_left_alone(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match=f"{name}: is no part of a planted corpus"):
        make_planted(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_nothing_but_frames_needs_torch(tmp_path):
    code = (
        "import sys; from pathlib import Path; from pipelines.planted.settings import "
        "PlantedSettings; from pipelines.planted.write import make_planted; "
        f"make_planted(Path({str(tmp_path)!r}), PlantedSettings(n_labelled=9, n_unlabelled=2, "
        "n_test=1, audio_layers=(18,), text_layers=(40,), frames=False, summed=False)); "
        "print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
    assert len(Store.open(tmp_path / "store").feature_sets()) == 3


def test_visual_features_overfit_few_labels(planted, tmp_path):
    """What alignment to audio has to mend: the nuisance drowns the signal, until labels are many."""
    settings = replace(
        SMALL, n_labelled=3000, audio_layers=(18,), text_layers=(40,), part_clips=16384
    )
    made = make_planted(tmp_path, settings)
    rows = np.flatnonzero((made.corpus.status["visual"] == "ok") & made.corpus.scored)
    ids = [made.corpus.clip_ids[row] for row in rows]
    x = features(made, "visual").read(layers=["embed"], clip_ids=ids)[:, 0].astype(float)
    label, oracle = made.corpus.label[rows], made.corpus.oracle()["visual"]

    def reached(n_fitted):
        model = LinearDiscriminantAnalysis().fit(x[:n_fitted], label[:n_fitted])
        return f1_score(label[1800:], model.predict(x[1800:]), average="weighted")

    assert reached(100) < oracle - 0.15
    assert reached(1800) > oracle - 0.06


def test_the_demo_plants_and_says_what_can_be_reached(tmp_path):
    from extractors.models.tiny import tiny_hubert

    folder = tmp_path / "planted"
    run = CliRunner().invoke(cli, ["demo", "--planted", str(folder)])
    assert run.exit_code == 0, run.output
    assert run.stdout == f"{folder / 'store'}\n"
    oracle = json.loads((folder / "oracle.json").read_text())
    for what, score in oracle.items():
        assert re.search(rf"^  {re.escape(what)} +{100 * score:.1f}$", run.stderr, re.MULTILINE)
    assert (
        f"mer-store table2 --store {folder / 'store'} --clips {folder / 'clips.csv'}" in run.stderr
    )
    assert "600 labelled clips, 11,000 unlabelled, 1000 test" in run.stderr
    assert "nothing about any real model" in (folder / "ABOUT.txt").read_text()

    store = Store.open(folder / "store")
    frames = store.features("audio", level="frame")
    assert (frames.spec.model, frames.spec.weights) == ("tiny", tiny_hubert().weights)
    assert not any(item.spec.trained for item in store.feature_sets())
    clip_ids = frames.clip_ids[:20]
    lengths = {len(rows) for rows in frames.ragged(layers=[15], clip_ids=clip_ids)}
    assert min(lengths) >= 20
    assert max(lengths) <= 60
    assert len(lengths) > 5
    corpus = PlantedSettings()
    rows = [rows[:, 0].mean(axis=0) for rows in frames.ragged(layers=[15], clip_ids=clip_ids)]
    audio = store.features("audio", level="utterance", recipe="default")
    best = audio.read(layers=[corpus.best_layer], clip_ids=clip_ids)[:, 0]
    through = projection(corpus, "audio")
    assert through.shown(np.array(rows)) == pytest.approx(through.shown(best), abs=0.02)
