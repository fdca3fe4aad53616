"""Table 2: which run fills which row, what is trained, and the command that an empty row names."""

from types import SimpleNamespace

import pytest
from part_factory import make_spec, ok_clip, write_part
from run_factory import make_run, read

from mer_store.clips.clip_list import ClipList
from mer_store.errors import UsageError
from mer_store.store.store import Store
from pipelines.report import table2
from pipelines.report.table2 import ROWS, Table2, overrides_of, values_of
from pipelines.train.run_folder import list_runs
from pipelines.train.trainers import trainer_of

DIGEST = "sha256:adapter"
ROW = {row.name: row for row in ROWS}
RAN = "run `mer-store extract --modality audio --layers 16-21 --frame-layers 15`"


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "store")


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


def add(store, modality, recipe="default", layers=(18,), level="utterance", **preprocessing):
    """Give the store a feature set of one clip; return its fingerprint."""
    spec = make_spec(level, modality=modality, recipe=recipe, preprocessing=preprocessing)
    feature_set = store.ensure(spec)
    write_part(feature_set, [ok_clip("c0", layers, n_rows=1)], layers)
    return spec.fingerprint


def add_all(store):
    """Everything that some row reads but what adapters and alignment make."""
    add(store, "audio", "mertools2024", ("last4sum",))
    add(store, "audio", layers=tuple(range(15, 25)))
    add(store, "audio", layers=(15,), level="frame")
    add(store, "visual", layers=("embed",))
    add(store, "text", layers=(37, 38))


def shown(store, runs, **more):
    filled = Table2(store, ClipList(()), runs, trains=False, **more).fill()
    return {row.row.name: row for row in filled}


def test_there_are_the_papers_eleven_rows_and_one_published_score():
    assert list(ROW) == [
        "HL", "HL(18)", "HL(16-21)", "HLFT(18)", "HLFT(16-21)", "CLIPL", "CLIPL-A", "A+V",
        "A+V-aligned", "A+T", "A+V+T",
    ]  # fmt: skip
    assert {name: row.published for name, row in ROW.items() if row.published} == {"A+V+T": 88.9}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_each_row_is_a_bundled_config_that_reads_what_the_row_needs(row):
    settings = table2.read_settings(trainer_of(row.task).Settings, row.config)
    assert settings.name == row.config
    if row.task == "probe":
        chosen = {settings.modality: settings.features}
    elif row.task == "adapter":
        chosen = {"audio": settings.frames}
    else:
        chosen = {name: settings.choice(name) for name in settings.modalities}
    assert {need.modality: need.recipe for need in row.needs} == {
        name: choice.recipe for name, choice in chosen.items()
    }
    for need in row.needs:
        if need.layers:
            layers = ",".join(map(str, need.layers)).replace("16,17,18,19,20,21", "16-21")
            assert chosen[need.modality].layers == layers


def test_on_an_empty_store_each_row_names_the_command_that_comes_first(store, runs):
    rows = shown(store, runs)
    why = {name: row.why for name, row in rows.items()}
    summed = "mer-store extract --modality audio --recipe mertools2024 --layers last4sum"
    assert why["HL"] == f"no audio mertools2024 last4sum: run `{summed}`"
    pooled = "mer-store extract --modality audio --layers 16-21"
    assert why["HL(18)"] == f"no audio default 18: run `{pooled}`"
    assert why["HL(16-21)"] == f"no audio default 16-21: run `{pooled}`"
    assert why["HLFT(18)"] == why["HLFT(16-21)"] == f"no audio frames default 15: {RAN}"
    assert why["CLIPL"] == "no visual default embed: run `mer-store extract --modality visual`"
    visual = "no visual aligned: run `mer-store extract --modality visual`"
    assert why["CLIPL-A"] == visual
    for name in ("A+V", "A+V-aligned", "A+T", "A+V+T"):
        assert why[name] == f"no audio adapter fused: {RAN}"


def test_with_all_that_is_extracted_the_next_step_is_the_adapter(store, runs):
    add_all(store)
    why = {name: row.why for name, row in shown(store, runs).items()}
    assert why["HL"] == "not trained: run `mer-store train probe --config hl`"
    assert why["HLFT(18)"] == "not trained: run `mer-store train adapter --config hlft18`"
    adapt = "run `mer-store train adapter --config hlft16-21`"
    assert why["A+V"] == f"no audio adapter fused: {adapt}"
    assert why["CLIPL-A"] == f"no visual aligned: {adapt}"


def test_with_the_adapter_trained_the_next_step_names_its_run(store, runs):
    add_all(store)
    run = make_run(runs, "adapter", "hlft16-21", adapter=DIGEST)
    why = {name: row.why for name, row in shown(store, runs).items()}
    step = f"mer-store extract --modality audio --adapter {run.path}"
    assert why["A+T"] == f"no audio adapter fused: run `{step}`"
    assert why["A+V+T"] == f"no audio adapter fused: run `{step}`"
    assert why["CLIPL-A"] == f"no visual aligned: run `{step}`"


def test_features_of_other_adapters_are_not_those_of_the_row(store, runs):
    add_all(store)
    make_run(runs, "adapter", "hlft16-21", adapter=DIGEST)
    add(store, "audio", "adapter", ("fused",), adapter={"digest": "sha256:other"})
    assert "--adapter" in shown(store, runs)["A+V"].why
    add(store, "audio", "adapter", ("fused",), adapter={"digest": DIGEST})
    rows = shown(store, runs)
    assert rows["A+V"].why == "not trained: run `mer-store train fusion --config a+v`"
    align = "run `mer-store train align --config align`"
    assert rows["CLIPL-A"].why == f"no visual aligned: {align}"
    assert rows["A+V-aligned"].why == f"no visual aligned: {align}"


def test_the_newest_run_with_a_rows_features_fills_it(store, runs):
    make_run(runs, config="hl18", assignments=["features.layers=17"], weighted_f1_mean=0.1)
    make_run(runs, task="probe", assignments=["epochs=2"], weighted_f1_mean=0.2)
    assert shown(store, runs)["HL(18)"].run is None
    make_run(runs, config="hl18", assignments=["epochs=9"], weighted_f1_mean=0.3)
    first = shown(store, runs)["HL(18)"]
    assert values_of(first)["weighted_f1_mean"] == 30.0
    assert first.other_settings
    fewer = make_run(runs, config="hl18", assignments=["epochs=5"], weighted_f1_mean=0.4)
    assert shown(store, runs)["HL(18)"].run == fewer
    asked = shown(store, runs, overrides={"probe": ["epochs=9"]})["HL(18)"]
    assert values_of(asked)["weighted_f1_mean"] == 30.0
    plain = make_run(runs, config="hl18")
    make_run(runs, config="hl18", assignments=["epochs=7"])
    best = shown(store, runs)["HL(18)"]
    assert best.run == plain
    assert not best.other_settings


def test_a_rows_values_are_those_of_its_summary(store, runs):
    test_set = {"weighted_f1": 0.65432, "n_clips": 7}
    run = make_run(
        runs, "fusion", "a+t", ["audio.fingerprint=abc"],
        [
            read(recipe="adapter", layers=("fused",), preprocessing={"adapter": {"digest": "d"}}),
            read("text", layers=(37, 38), trained=False),
        ],
        test=test_set, weighted_f1_mean=0.810449, weighted_f1_std=0.0299951, n_clips=1234,
        selection="fold", spread_over="repeats",
    )  # fmt: skip
    assert values_of(shown(store, runs)["A+T"]) == {
        "row": "A+T",
        "features": "audio adapter fused, text default 37-38",
        "weighted_f1_mean": 81.04,
        "weighted_f1_std": 3.0,
        "spread_over": "repeats",
        "test_weighted_f1": 65.43,
        "selection": "fold",
        "n_clips": 1234,
        "published_test_weighted_f1": None,
        "features_saw_labels": True,
        "untrained_features": True,
        "other_settings": False,
        "run": str(run.path),
        "note": None,
    }


@pytest.fixture
def trainers(monkeypatch):
    """Trainers that finish at once and write down what they were asked for."""
    asked = []

    def trainer(task):
        def train(job):
            asked.append((task, job.settings))
            return make_run(
                job.runs, task, settings=job.settings, adapter=DIGEST, fingerprint="aligned1"
            )

        return SimpleNamespace(Settings=trainer_of(task).Settings, train=train)

    monkeypatch.setattr(table2, "trainer_of", trainer)
    return asked


def test_all_that_can_be_trained_is_and_alignment_before_the_rows_that_read_it(
    store, runs, trainers
):
    add_all(store)
    adapted = add(store, "audio", "adapter", ("fused",), adapter={"digest": DIGEST})
    overrides = overrides_of(["fusion.epochs=7", "align.batch=64", "adapter.model=tiny"])
    rows = Table2(store, ClipList(()), runs, overrides=overrides).fill()
    assert [row.why for row in rows] == [""] * 11
    tasks = [task for task, _ in trainers]
    assert tasks == ["probe"] * 3 + ["adapter"] * 2 + ["probe", "align", "probe"] + ["fusion"] * 4
    by_name = {settings.name: settings for _, settings in trainers}
    assert by_name["align"].audio.fingerprint == adapted
    assert by_name["align"].batch == 64
    assert by_name["clipl-a"].features.fingerprint == "aligned1"
    assert by_name["clipl"].features.fingerprint == ""
    assert by_name["a+v-aligned"].visual.fingerprint == "aligned1"
    assert by_name["a+v"].visual.fingerprint == ""
    for name in ("a+v", "a+v-aligned", "a+t", "a+v+t"):
        assert by_name[name].audio.fingerprint == adapted
        assert by_name[name].epochs == 7
    differs = {row.row.name for row in rows if row.other_settings}
    assert differs == {"HLFT(18)", "HLFT(16-21)", "A+V", "A+V-aligned", "A+T", "A+V+T"}


def test_what_cannot_be_trained_says_why_and_the_others_are_trained(store, runs, monkeypatch):
    def refuse(job):
        raise UsageError("setting model: name the base model\nsecond line")

    def trainer(task):
        train = (
            refuse if task == "adapter" else lambda job: make_run(job.runs, settings=job.settings)
        )
        return SimpleNamespace(Settings=trainer_of(task).Settings, train=train)

    monkeypatch.setattr(table2, "trainer_of", trainer)
    add_all(store)
    rows = {row.row.name: row for row in Table2(store, ClipList(()), runs).fill(ROWS[:6])}
    assert rows["HLFT(18)"].why == "setting model: name the base model"
    assert [name for name, row in rows.items() if row.run] == ["HL", "HL(18)", "HL(16-21)", "CLIPL"]
    assert len(list_runs(runs)) == 4


@pytest.mark.parametrize("wrong", ["epochs=1", "fusion", "fusion.", "extract.layers=18"])
def test_a_setting_without_a_task_is_refused(wrong):
    with pytest.raises(UsageError, match=r"expected TASK\.KEY=VALUE"):
        overrides_of([wrong])
