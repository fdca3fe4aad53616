"""Table 2 as people read it: exact text, the CSV, the command that prints both."""

import csv
import json

import pytest
from click.testing import CliRunner
from run_factory import make_run, read

from mer_store.cli.main import cli
from mer_store.clips.clip_list import ClipList
from mer_store.store.store import Store
from pipelines.planted.settings import PlantedSettings
from pipelines.planted.write import make_planted
from pipelines.report.table2 import ROWS, Table2
from pipelines.report.table2_text import as_markdown, write_csv
from pipelines.train.run_folder import list_runs

ADAPTED = {"recipe": "adapter", "layers": ("fused",), "preprocessing": {"adapter": {"digest": "d"}}}
TABLE = """\
| row   | features                                | weighted F1 (%)  | test (%) | published test (%) | selection | clips | run or next step                                                   |
| ----- | --------------------------------------- | ---------------- | -------- | ------------------ | --------- | ----- | ------------------------------------------------------------------ |
| HL    | audio mertools2024 last4sum             | 70.12 ± 3.46     | -        | -                  | last      | 20    | {hl:66} |
| CLIPL | visual default embed                    | -                | -        | -                  | -         | -     | no visual default embed: run `mer-store extract --modality visual` |
| A+T   | audio adapter fused, text default 37-40 | 81.00 ± 0.50 †‡§ | 79.90    | -                  | fold      | 5,030 | {at:66} |
"""  # noqa: E501
NOTES = """
† The adapters had seen the labels of all folds: here cross-validation is optimistic.
‡ Features of no trained model, or planted ones: the score is a statement about the code.
§ Trained with settings other than those of the bundled config.
Selection of the epoch: last; inner: on a part of the training folds; fold: optimistic, on the fold.
Published: the paper's abstract gives the last row alone, on the test set of MER2024-SEMI.
"""


@pytest.fixture
def some(tmp_path):
    """Rows HL, CLIPL and A+T of a store without features, two of them trained."""
    store, runs = Store.create(tmp_path / "store"), tmp_path / "runs"
    hl = make_run(runs, config="hl", inputs=[read("audio", "mertools2024", ("last4sum",))])
    at = make_run(
        runs, "fusion", "a+t", ["epochs=3"],
        [read("audio", **ADAPTED), read("text", layers=(37, 38, 39, 40), trained=False)],
        weighted_f1_mean=0.81, weighted_f1_std=0.005, selection="fold", n_clips=5030,
        test={"weighted_f1": 0.799, "n_clips": 9},
    )  # fmt: skip
    rows = [row for row in ROWS if row.name in {"HL", "CLIPL", "A+T"}]
    filled = Table2(store, ClipList(()), runs, trains=False).fill(rows)
    return {"rows": filled, "hl": hl.path, "at": at.path}


def test_the_markdown_is_aligned_and_tells_what_has_to_be_known(some):
    names = {"hl": some["hl"].name, "at": some["at"].name}
    assert as_markdown(some["rows"]) == TABLE.format(**names) + NOTES


def test_marks_that_no_row_carries_are_not_explained(some):
    words = as_markdown(some["rows"][:1])
    assert "†" not in words
    assert "‡" not in words
    assert words.endswith(NOTES[NOTES.index("Selection") :])


def test_a_bar_in_a_cell_does_not_split_it(some):
    [row] = some["rows"][1:2]
    changed = type(row)(row.row, None, "a|b")
    assert r"| a\|b" in as_markdown([changed])


def test_the_csv_has_all_that_is_known(some, tmp_path):
    target = tmp_path / "new" / "table2.csv"
    write_csv(some["rows"], target)
    assert target.read_text() == (
        "row,features,weighted_f1_mean,weighted_f1_std,spread_over,test_weighted_f1,selection,n_clips,"
        "published_test_weighted_f1,features_saw_labels,untrained_features,other_settings,run,note\n"
        f"HL,audio mertools2024 last4sum,70.12,3.46,folds,,last,20,,false,false,false,{some['hl']},\n"
        "CLIPL,visual default embed,,,,,,,,false,false,false,,"
        "no visual default embed: run `mer-store extract --modality visual`\n"
        'A+T,"audio adapter fused, text default 37-40",81.00,0.50,folds,79.90,fold,5030,,'
        f"true,true,true,{some['at']},\n"
    )


SMALL = PlantedSettings(
    n_labelled=60, n_unlabelled=20, n_test=10, frames=False, text_layers=(39, 40), part_clips=64
)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return make_planted(tmp_path_factory.mktemp("planted"), SMALL)


def call(planted, runs, *arguments):
    where = ["--store", str(planted.store), "--clips", str(planted.clips), "--runs", str(runs)]
    result = CliRunner().invoke(cli, [*arguments, *where])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_trains_what_it_can_once_and_names_the_rest(planted, tmp_path):
    runs = tmp_path / "runs"
    command = ["table2", "--set", "probe.epochs=1", "--device", "cpu", "--json"]
    rows = {row["row"]: row for row in json.loads(call(planted, runs, *command))}
    trained = [name for name, row in rows.items() if row["run"]]
    assert trained == ["HL", "HL(18)", "HL(16-21)", "CLIPL"]
    assert rows["HLFT(18)"]["note"].startswith("no audio frames default 15: run `mer-store extract")
    found = list_runs(runs)
    assert sorted(str(run.path) for run in found) == sorted(rows[name]["run"] for name in trained)
    for name in trained:
        assert rows[name]["untrained_features"]
        assert rows[name]["other_settings"]
    for run in found:
        assert (run.path / "report.html").is_file()
    finished = {run.path: (run.path / "summary.json").stat().st_mtime_ns for run in found}
    again = call(planted, runs, *command[:-1])
    assert {
        run.path: (run.path / "summary.json").stat().st_mtime_ns for run in list_runs(runs)
    } == (finished)
    with (tmp_path / "table2.csv").open(encoding="utf-8", newline="") as file:
        written = {row["row"]: row for row in csv.DictReader(file)}
    assert list(written) == list(rows)
    for name in trained:
        score = f"{rows[name]['weighted_f1_mean']:.2f}"
        assert written[name]["weighted_f1_mean"] == score
        assert f"{score} ± " in again
    assert written["A+V+T"]["published_test_weighted_f1"] == "88.90"


def test_no_train_trains_nothing(planted, tmp_path):
    target = tmp_path / "t.csv"
    runs = tmp_path / "runs"
    shown = call(planted, runs, "table2", "--no-train", "-o", str(target))
    assert "not trained: run `mer-store train probe --config hl18`" in shown
    assert target.is_file()
    assert list_runs(runs) == []
