"""The store's page counts as the ledger does, names every run, and trains nothing."""

import os
from dataclasses import replace

import pytest
from page_reader import read_page
from part_factory import make_spec, ok_clip, write_part
from run_factory import make_run, read

from mer_store.clips.clip_list import Clip, ClipList
from mer_store.store.store import Store
from mer_store.store.writer import ClipRows
from pipelines.planted.settings import PlantedSettings
from pipelines.planted.write import make_planted
from pipelines.report.run_page import write_run_page
from pipelines.report.store_page import write_store_page
from pipelines.report.table2 import Table2
from pipelines.train.run_folder import list_runs

COVERAGE = ("modality", "model", "level", "recipe", "layers", "ok")
HOSTILE = "<script>alert('1')</script> & \"so\""
TINY = PlantedSettings(
    n_labelled=30, n_unlabelled=10, n_test=5, audio_layers=(17, 18), text_layers=(40,),
    frames=False, summed=False, no_face=0.3,
)  # fmt: skip


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "store")


def page_of(store, clip_list, runs, target):
    rows = Table2(store, clip_list or ClipList(()), runs, trains=False).fill()
    return read_page(write_store_page(store, clip_list, list_runs(runs), rows, target))


def fill(store, reason="no sound", **changes):
    """Two clips with features, one without sound, one that cannot be read; x4 is in no part."""
    feature_set = store.ensure(make_spec("utterance", **changes))
    clips = [ok_clip("x0", n_rows=1), ok_clip("x1", n_rows=1)]
    nothing = [
        ClipRows("x2", "empty", reason, "sha256:2"),
        ClipRows("x3", "failed", "torn", "sha256:3"),
    ]
    write_part(feature_set, clips + nothing)
    return feature_set


def listed(*clip_ids):
    return ClipList(tuple(Clip(clip_id) for clip_id in clip_ids))


def test_coverage_and_reasons_of_a_planted_store_are_the_ledgers(tmp_path):
    planted = make_planted(tmp_path / "planted", TINY)
    store, status = Store.open(planted.store), planted.corpus.status
    clip_list = ClipList.read(planted.clips)
    page = page_of(store, clip_list, tmp_path / "runs", tmp_path / "report.html")
    assert f"3 feature sets, 0 runs, 40 clips listed in {planted.clips}" in page.words
    rows = {row[0]: row for row in page.table(*COVERAGE)}
    reasons = {(row[0], row[1]): row[2] for row in page.table("modality", "reason")}
    n_empty = {modality: int((status[modality] == "empty").sum()) for modality in status}
    for modality, found in status.items():
        counts = [int((found == one).sum()) for one in ("ok", "empty", "failed")]
        assert rows[modality][5:9] == [*map(str, counts), "0"]
        assert rows[modality][1].split() == [f"planted-{modality}", "untrained"]
    assert n_empty["visual"] > 3
    assert reasons["visual", "no face"] == str(n_empty["visual"])
    failed = {modality: int((found == "failed").sum()) for modality, found in status.items()}
    told = {row[0]: row[2] for row in page.table("modality", "reason") if "failure" in row[1]}
    assert told == {modality: str(number) for modality, number in failed.items() if number}


def test_with_a_clip_list_the_lists_clips_are_counted(store, tmp_path):
    fill(store, trained=True)
    clips = listed("x0", "x2", "x4", "x5")
    page = page_of(store, clips, tmp_path / "runs", tmp_path / "report.html")
    [row] = page.table(*COVERAGE)
    assert row[:5] == ["audio", "tiny", "utterance", "default", "18"]
    assert row[5:9] == ["1", "1", "0", "2"]
    assert "untrained" not in page.words


def test_without_a_clip_list_all_that_the_store_holds_is_counted(store, tmp_path):
    fill(store)
    page = page_of(store, None, tmp_path / "runs", tmp_path / "report.html")
    [row] = page.table(*COVERAGE)
    assert row[5:9] == ["2", "1", "1", "0"]
    assert "1 feature set, 0 runs, no clip list" in page.words
    assert [row[:3] for row in page.table("modality", "reason")] == [
        ["audio", "no sound", "1"], ["audio", "torn", "1"],
    ]  # fmt: skip


def test_the_bars_are_as_long_as_the_counts(store, tmp_path):
    fill(store)
    fill(store, recipe="other")
    source = page_of(store, None, tmp_path / "runs", tmp_path / "report.html").source
    bars = source.split("<div class=bar>")[1:]
    assert len(bars) == 2
    for bar in bars:
        assert "width:50.000%" in bar
        assert bar.count("width:25.000%") == 2


def test_feature_sets_that_lack_the_same_clips_share_a_row(store, tmp_path):
    made = [fill(store), fill(store, recipe="other")]
    page = page_of(store, None, tmp_path / "runs", tmp_path / "report.html")
    rows = page.table("modality", "reason")
    assert [row[:3] for row in rows] == [["audio", "no sound", "1"], ["audio", "torn", "1"]]
    for one in made:
        assert f"utterance {one.spec.recipe} {one.spec.fingerprint[:4]}" in rows[0][3]


def test_an_empty_store_says_how_it_is_filled(store, tmp_path):
    page = page_of(store, None, tmp_path / "runs", tmp_path / "report.html")
    assert "The store is empty; fill it with mer-store extract" in page.words
    assert "0 feature sets, 0 runs, no clip list" in page.words
    assert len(page.table("row", "features")) == 11
    assert not (tmp_path / "runs").exists()


def test_runs_are_listed_newest_first_with_links_that_lead_to_their_pages(store, tmp_path):
    runs = tmp_path / "runs #1"
    first = make_run(runs, test={"weighted_f1": 0.4567, "n_clips": 9})
    second = make_run(runs, "fusion", assignments=["epochs=3"], selection="fold")
    aligned = make_run(runs, "align", summary={"video_to_audio_at_10": 0.25, "selection": "last"})
    for run, finished in ((first, "2024-01-02"), (second, "2024-01-03"), (aligned, "2024-01-01")):
        text = (run.path / "summary.json").read_text()
        now = run.summary["finished_at"]
        (run.path / "summary.json").write_text(text.replace(now, f"{finished}T04:05:06+0000"))
    write_run_page(first)
    target = tmp_path / "pages" / "report.html"
    target.parent.mkdir()
    page = page_of(store, None, runs, target)
    rows = page.table("run", "weighted F1 (%)")
    assert [row[0] for row in rows] == [second.path.name, first.path.name, aligned.path.name]
    assert [row[1] for row in rows] == ["70.12 ± 3.46", "70.12 ± 3.46", "recall@10 25.00"]
    assert [row[2] for row in rows] == ["-", "45.67", "-"]
    assert [row[3] for row in rows] == ["fold optimistic", "last", "last"]
    assert [row[5] for row in rows] == [f"2024-01-0{day} 04:05" for day in (3, 2, 1)]
    assert page.links == [f"../runs%20%231/{first.path.name}/report.html"]
    there = os.path.normpath(target.parent / page.links[0].replace("%20", " ").replace("%23", "#"))
    assert there == str(first.path / "report.html")


def test_an_unfinished_run_is_not_listed(store, tmp_path):
    run = make_run(tmp_path / "runs")
    (run.path / "summary.json").unlink()
    page = page_of(store, None, tmp_path / "runs", tmp_path / "report.html")
    assert "0 runs" in page.words
    assert run.path.name not in page.words


def test_what_a_run_read_is_written_once(store, tmp_path):
    inputs = [read("audio", "adapter", ("fused",)), read("visual", "aligned", ("aligned",))]
    make_run(tmp_path / "runs", "fusion", inputs=inputs)
    page = page_of(store, None, tmp_path / "runs", tmp_path / "report.html")
    [row] = page.table("run")
    assert row[4] == "audio adapter fused, visual aligned"


def test_hostile_text_is_text(tmp_path):
    store = Store.create(tmp_path / "<u>store")
    fill(store, reason=HOSTILE)
    clips = replace(listed("x0", HOSTILE), path=tmp_path / "<i>.csv")
    make_run(tmp_path / "runs", inputs=[read(recipe=HOSTILE)], selection=HOSTILE)
    page = page_of(store, clips, tmp_path / "runs", tmp_path / "report.html")
    assert HOSTILE in [row[1] for row in page.table("modality", "reason")]
    assert page.table("run")[0][3] == HOSTILE
    assert HOSTILE in page.table("run")[0][4]
    assert "<u>store" in page.words
    assert "<i>.csv" in page.words
    assert "u" not in page.tags
