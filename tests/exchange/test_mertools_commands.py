"""``mer-store export`` and ``mer-store import`` as a person types them."""

from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from mertools_factory import empty, filled, listed, new_store, tree

from mer_store.cli.main import cli
from mer_store.clips.clip_list import ClipList
from mer_store.errors import UsageError


@pytest.fixture
def shell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = new_store(tmp_path)
    filled(store, ["a", "b", empty("e")])

    def run(line, code=0):
        result = CliRunner().invoke(cli, line.split(), standalone_mode=False)
        if result.exception is not None:
            raise result.exception
        assert (result.return_value or 0) == code, result.output
        return SimpleNamespace(stdout=result.stdout, stderr=result.stderr)

    run.folder = tmp_path
    return run


def test_there_and_back(shell):
    listed("a", "b", "e", label="anger", split="labelled").write(shell.folder / "clips.csv")
    export = "export --format mertools --modality audio --to"
    with pytest.raises(UsageError, match=r"1 of 3 clips .*\(1 empty\): e\. Nothing was written"):
        shell(f"{export} out")
    assert not (shell.folder / "out").exists()
    shell(f"{export} out --policy zeros")
    files = tree(shell.folder / "out")
    assert sorted(files) == [
        *(f"features/chinese-hubert-large-UTT/{c}.npy" for c in "abe"), "label-6way.npz",
    ]  # fmt: skip
    bring = "import --format mertools --from out --modality audio --name chinese-hubert-large-UTT"
    shell(f"{bring} --store other")
    shell(f"{export} again --policy zeros --store other")
    assert tree(shell.folder / "again") == files
    assert "0 stored, 0 empty, 0 failed, 3 there already" in shell(f"{bring} --store other").stderr
    assert "stale" not in shell("show a --store other").stdout


def test_a_split(shell):
    clips = [*listed("a", split="labelled").clips, *listed("b", split="test").clips]
    ClipList(tuple(clips)).write(shell.folder / "clips.csv")
    shell("export --format mertools --to out --split test")
    assert [path.name for path in (shell.folder / "out/features").rglob("*.npy")] == ["b.npy"]
    with pytest.raises(UsageError, match="there are labelled, test"):
        shell("export --format mertools --to out --split train")


def test_the_clip_list_is_needed_only_where_it_is_named(shell):
    shell("export --format mertools --to out --policy skip")
    assert sorted(path.name for path in (shell.folder / "out").rglob("*.npy")) == ["a.npy", "b.npy"]
    with pytest.raises(UsageError, match="cannot be read"):
        shell("export --format mertools --to out2 --clips gone.csv")


def test_a_media_file_beside_imported_features_does_not_make_them_stale(shell):
    (shell.folder / "a.wav").write_bytes(b"sound")
    (shell.folder / "clips.csv").write_text("clip_id,path\na,a.wav\n")
    folder = shell.folder / "in/features/mine-UTT"
    folder.mkdir(parents=True)
    np.save(folder / "a.npy", np.ones(4, np.float32))
    shell("import --format mertools --from in --modality audio --name mine-UTT --store other")
    assert "stale" not in shell("show a --store other").stdout
