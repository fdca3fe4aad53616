"""Table 2 from the cache alone: adapters, what they make, alignment, fusion; then nothing is left to do."""

import json

import pytest
from click.testing import CliRunner

from mer_store.cli.main import cli
from mer_store.store.store import Store
from pipelines.planted.settings import PlantedSettings
from pipelines.planted.write import make_planted
from pipelines.train.run_folder import RunFolder, list_runs

SMALL = PlantedSettings(
    n_labelled=48, n_unlabelled=40, n_test=6, n_frames=(4, 8), audio_layers=tuple(range(15, 25))
)
ADAPT = (
    "--set epochs=1 --set n_folds=2 --set bottleneck=4 --set predict=labelled --device cpu".split()
)
QUICK = [
    word
    for task, keys in {
        "probe": ("epochs=1", "hidden=4", "n_folds=2"),
        "fusion": ("epochs=1", "hidden=4", "n_folds=2"),
        "align": ("epochs=1", "batch=8"),
        "adapter": ("epochs=1", "n_folds=2", "bottleneck=4", "predict=labelled"),
    }.items()
    for key in keys
    for word in ("--set", f"{task}.{key}")
]


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Two adapters and their features; the table that was made with both there, and once more."""
    folder = tmp_path_factory.mktemp("chain")
    planted = make_planted(folder / "planted", SMALL)
    where = ["--store", str(planted.store), "--clips", str(planted.clips)]
    runs = ["--runs", str(folder / "runs")]

    def call(*words, codes=(0,)):
        result = CliRunner().invoke(cli, [*words, *where])
        assert result.exit_code in codes, result.output
        return result.stdout

    def adapt(*words):
        run = call("train", "adapter", "--config", "hlft16-21", *ADAPT, *words, *runs).strip()
        call("extract", "--modality", "audio", "--adapter", run, "--device", "cpu", codes=(0, 1))
        return RunFolder.open(run)

    own = adapt()
    other = adapt("--set", "seed=9")
    table = ["table2", "--device", "cpu", "--json", *QUICK, *runs]
    rows = {row["row"]: row for row in json.loads(call(*table))}
    before = times(folder / "runs")
    return {
        "store": Store.open(planted.store), "own": own, "other": other, "rows": rows,
        "runs": folder / "runs", "before": before, "again": lambda *more: call(*table, *more),
    }  # fmt: skip


def times(runs):
    return {
        run.path.name: (run.path / "summary.json").stat().st_mtime_ns for run in list_runs(runs)
    }


def adapted(chain, run):
    """Return the fingerprint of what a run's adapters made."""
    digest = chain[run].summary["adapter"]
    [found] = [
        one.spec.fingerprint
        for one in chain["store"].feature_sets()
        if one.spec.preprocessing.get("adapter", {}).get("digest") == digest
    ]
    return found


def test_every_row_is_filled_from_the_adapters_of_its_own_row(chain):
    rows = chain["rows"]
    assert [name for name, row in rows.items() if not row["run"]] == []
    assert rows["HLFT(16-21)"]["run"] == str(chain["own"].path)
    assert adapted(chain, "own") != adapted(chain, "other")
    for name in ("A+V", "A+V-aligned", "A+T", "A+V+T"):
        [audio, *_] = RunFolder.open(rows[name]["run"]).inputs
        assert (audio["modality"], audio["fingerprint"]) == ("audio", adapted(chain, "own"))


def test_aligned_features_are_those_of_one_alignment_with_the_same_adapters(chain):
    [alignment] = [run for run in list_runs(chain["runs"]) if run.task == "align"]
    assert alignment.inputs[1]["fingerprint"] == adapted(chain, "own")
    read = {
        item["fingerprint"]
        for name in ("CLIPL-A", "A+V-aligned", "A+V+T")
        for item in RunFolder.open(chain["rows"][name]["run"]).inputs
        if item["modality"] == "visual"
    }
    assert read == {alignment.summary["fingerprint"]}
    assert (alignment.path / "report.html").is_file()


def test_rows_whose_features_saw_labels_are_marked(chain):
    marked = [name for name, row in chain["rows"].items() if row["features_saw_labels"]]
    assert marked == ["CLIPL-A", "A+V", "A+V-aligned", "A+T", "A+V+T"]


def test_a_second_table_trains_nothing_and_is_the_same(chain):
    assert {row["row"]: row for row in json.loads(chain["again"]())} == chain["rows"]
    assert times(chain["runs"]) == chain["before"]


def test_without_training_the_same_rows_are_found(chain):
    found = {row["row"]: row for row in json.loads(chain["again"]("--no-train"))}
    assert {name: row["run"] for name, row in found.items()} == {
        name: row["run"] for name, row in chain["rows"].items()
    }
    assert times(chain["runs"]) == chain["before"]
