"""``mer-store report``: what it prints, where the page goes, what it does without runs or clips."""

import pytest
from click.testing import CliRunner
from page_reader import read_page
from run_factory import make_run, read

from mer_store.cli.main import cli
from mer_store.store.store import Store
from pipelines.report.run_page import write_run_page


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Store.create(tmp_path / "store")
    return tmp_path


def call(*arguments):
    result = CliRunner().invoke(cli, ["report", *arguments])
    assert result.exit_code == 0, result.output
    return result


def test_without_options_the_page_lies_beside_the_runs_and_its_path_is_the_one_line(folder):
    result = call()
    assert result.stdout == "report.html\n"
    assert result.stderr == ""
    words = read_page(folder / "report.html").words
    assert "0 feature sets, 0 runs, no clip list" in words
    assert "HLFT(16-21)" in words


def test_the_page_goes_where_it_is_asked_for(folder):
    run = make_run(folder / "runs")
    write_run_page(run)
    (folder / "clips.csv").write_text("clip_id,path\nc0,c0.wav\n")
    assert call("-o", "new/folder/page.html").stdout == "new/folder/page.html\n"
    page = read_page(folder / "new" / "folder" / "page.html")
    assert f"../../runs/{run.path.name}/report.html" in page.links
    assert "1 run, 1 clip listed in clips.csv" in page.words


def test_nothing_is_trained(folder):
    call()
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("name", ["summary.json", "run.json", "config.toml"])
def test_a_damaged_run_is_left_out_and_said(folder, name):
    summed = read("audio", "mertools2024", ("last4sum",))
    good = make_run(folder / "runs", config="hl", inputs=[summed])
    bad = make_run(folder / "runs", config="hl18")
    (bad.path / name).write_text("{")
    result = call()
    assert result.stderr.startswith(f"left out: runs/{bad.path.name}/{name}: cannot be read")
    page = read_page(folder / "report.html")
    assert good.path.name in page.words
    assert bad.path.name not in page.words


def test_a_missing_store_is_an_error(folder):
    result = CliRunner().invoke(cli, ["report", "--store", "none"])
    assert result.exit_code != 0
    assert not (folder / "report.html").exists()
