"""``mer-store train``, ``predict`` and ``report``, as a member types them who has the cache and no media."""

import csv
import json
import shutil

import pytest

from mer_store.clips.clip_list import ClipList
from mer_store.clips.words import CLASSES
from pipelines.planted.settings import PlantedSettings
from pipelines.planted.write import make_planted

TINY = PlantedSettings(
    n_labelled=60, n_unlabelled=20, n_test=8, audio_layers=tuple(range(16, 22)), text_layers=(37, 38, 39, 40),
    frames=False, summed=False, no_text=0.0,
)  # fmt: skip
QUICK = "--set epochs=1 --set hidden=4 --set n_folds=2 --device cpu"


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return make_planted(tmp_path_factory.mktemp("planted"), TINY)


@pytest.fixture
def member(shell, planted):
    """A folder with a store and a clip list, and no media."""
    shutil.copytree(planted.store, shell.folder / "store")
    shutil.copy(planted.clips, shell.folder / "clips.csv")
    return shell


@pytest.fixture
def fused(member):
    """A fusion of text and audio."""
    return member(f"train fusion --set modalities=text,audio {QUICK}").stdout.strip()


@pytest.fixture
def there(planted):
    """Clips that have text or audio."""
    status = planted.corpus.status
    found = (status["text"] == "ok") | (status["audio"] == "ok")
    clips = ClipList.read(planted.clips).clips
    return [clip for clip, ok in zip(clips, found, strict=True) if ok]


def read_rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_train_prints_one_line_the_runs_folder_and_writes_its_page(member):
    shown = member(f"train probe --config hl18 {QUICK}")
    [line] = shown.stdout.splitlines()
    run = member.folder / line
    assert run.parent == member.folder / "runs"
    summary = json.loads((run / "summary.json").read_text())
    assert f"{100 * summary['weighted_f1_mean']:.2f}" in (run / "report.html").read_text()
    assert summary["epochs_chosen"] == 1


def test_what_is_trained_is_not_trained_again(member):
    first = member(f"train probe --config hl18 {QUICK}")
    written = (member.folder / first.stdout.strip() / "summary.json").stat().st_mtime_ns
    assert member(f"train probe --config hl18 {QUICK}").stdout == first.stdout
    assert (member.folder / first.stdout.strip() / "summary.json").stat().st_mtime_ns == written
    other = member(f"train probe --config hl18 {QUICK} --set seed=1")
    assert other.stdout != first.stdout


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("train probe --set epoch=1", "setting epoch: there is none of that name"),
        ("train probe --set epochs=some", "setting epochs: expected"),
        ("train probe --set epochs", "expected key=value"),
        ("train probe --config hl99", "--config hl99: no such file"),
        ("train probing", "'probing' is not one of"),
        ("train probe --set n_folds=1 --set features.layers=18", "setting n_folds: expected 2"),
        ("train probe --set features.layers=3", "layer"),
    ],
)
def test_wrong_use_exits_2_and_leaves_no_run(member, line, words):
    shown = member(line, code=2)
    assert words in shown.stderr
    assert shown.stdout == ""
    assert not (member.folder / "runs").exists()


def test_predict_writes_a_row_a_clip_and_a_submission_of_the_test_set(member, fused, there):
    shown = member(f"predict {fused} -o all.csv --submission out.csv --device cpu")
    assert shown.stdout == "all.csv\n"
    assert f"{len(there)} of 80 clips predicted" in shown.stderr
    assert "out.csv: 8 rows to submit" in shown.stderr
    predicted = {row["clip_id"]: row for row in read_rows(member.folder / "all.csv")}
    assert list(predicted) == [clip.clip_id for clip in there]
    for row in predicted.values():
        chances = {name: float(row[name]) for name in CLASSES}
        assert sum(chances.values()) == pytest.approx(1, abs=1e-5)
        assert chances[row["label"]] == max(chances.values())
    submitted = read_rows(member.folder / "out.csv")
    words = {row["name"]: row["discrete"] for row in submitted}
    assert [*words] == [clip.clip_id for clip in there if clip.split == "test"]
    same = {"neutral": "neutral", "anger": "angry", "happiness": "happy", "sadness": "sad",
            "worry": "worried", "surprise": "surprise"}  # fmt: skip
    assert words == {name: same[predicted[name]["label"]] for name in words}


def test_predict_gives_what_the_training_wrote(member, fused):
    before = (member.folder / fused / "predictions.csv").read_bytes()
    assert member(f"predict {fused} --device cpu").stdout == f"{fused}/predictions.csv\n"
    again = read_rows(member.folder / fused / "predictions.csv")
    (member.folder / "before.csv").write_bytes(before)
    for row, other in zip(read_rows(member.folder / "before.csv"), again, strict=True):
        assert row["clip_id"] == other["clip_id"]
        assert [float(row[name]) for name in CLASSES] == pytest.approx(
            [float(other[name]) for name in CLASSES], abs=2e-6
        )


def test_candidates_are_submitted_in_their_order_and_unknown_ones_refused(member, fused):
    names = [clip.clip_id for clip in ClipList.read(member.folder / "clips.csv").clips[-3:]]
    (member.folder / "list.csv").write_text("\n".join(["name", *reversed(names)]) + "\n")
    member(f"predict {fused} --submission out.csv --candidates list.csv --device cpu")
    assert [row["name"] for row in read_rows(member.folder / "out.csv")] == names[::-1]
    (member.folder / "list.csv").write_text("name\nnobody\n")
    shown = member(f"predict {fused} --submission no.csv --candidates list.csv", code=2)
    assert "nobody" in shown.stderr
    assert not (member.folder / "no.csv").exists()
    shown = member(f"predict {fused} --candidates list.csv", code=2)
    assert "--candidates goes with --submission" in shown.stderr


def test_pseudo_labels_are_trained_on_and_not_scored(member, fused, there):
    line = f"predict {fused} --as-clips pseudo.csv --min-confidence 0 --device cpu"
    splits = [clip.split for clip in there]
    assert f"pseudo.csv: {splits.count('unlabelled')} pseudo-labels" in member(line).stderr
    run = member(f"train fusion --set modalities=text,audio --set pseudo=pseudo.csv {QUICK}")
    folder = member.folder / run.stdout.strip()
    assert folder != member.folder / fused
    assert json.loads((folder / "summary.json").read_text())["n_clips"] == splits.count("labelled")


def test_predict_wants_a_finished_run(member):
    assert "not a run" in member("predict runs/none", code=2).stderr


def test_report_writes_one_page_of_store_runs_and_table(member, fused):
    shown = member("report")
    assert shown.stdout == "report.html\n"
    page = (member.folder / "report.html").read_text()
    assert f'href="{fused}/report.html"' in page
    assert "A+V-aligned" in page
    assert len(list((member.folder / "runs").iterdir())) == 1
    (member.folder / "clips.csv").unlink()
    assert member("report -o other.html").stdout == "other.html\n"
    assert "no clip list" in (member.folder / "other.html").read_text()


def test_report_needs_a_store(shell):
    assert "store" in shell("report", code=2).stderr
    assert not (shell.folder / "report.html").exists()
