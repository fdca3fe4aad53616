"""verify, repair, compact and prune as a person types them: texts, JSON, exit codes."""

import json
import os

import pytest
from part_factory import make_set, ok_clip, part_folder, write_part

from mer_store.store.store import Store

IDS = [f"clip{n}" for n in range(7)]


@pytest.fixture
def shell(shell):
    feature_set = make_set(shell.folder / "store")
    shell.records = [write_part(feature_set, [ok_clip(c, (18, 19))], (18, 19)) for c in IDS]
    shell.feature_set = feature_set
    return shell


def cut(shell, number=0):
    path = part_folder(shell.feature_set, shell.records[number]) / "19" / "c" / "0" / "0"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])


def test_verify_says_what_is_wrong_and_exits_with_1(shell):
    assert "7 parts checked, 0 findings" in shell("verify").stderr
    cut(shell)
    result = shell("verify --deep", code=1)
    part_id = shell.records[0].part_id
    assert f"parts/{part_id}/19/c/0/0: expected" in result.stdout
    assert result.stdout.endswith("; hit: layers 19, clips clip0\n")
    facts = json.loads(shell("verify --json", code=1).stdout)
    (finding,) = facts["findings"]
    assert facts["parts"] == 7
    assert finding["part_id"] == part_id
    assert finding["modality"] == "audio"
    assert finding["feature_set"] == shell.feature_set.name
    assert finding["path"] == f"parts/{part_id}/19/c/0/0"
    assert (finding["layers"], finding["clip_ids"], finding["scope"]) == ([19], ["clip0"], "part")


def test_repair_moves_it_and_says_how_to_make_it_again(shell):
    assert "nothing to repair" in shell("repair").stderr
    cut(shell)
    cut(shell, 3)
    assert "would be moved" in shell("repair --dry-run").stdout
    shell("verify", code=1)
    result = shell("repair")
    assert f"quarantine/{shell.records[0].part_id}-1" in result.stdout
    assert "layers 18-19 of 2 clips: clip0, clip3" in result.stdout
    assert "  mer-store extract --modality audio --level frame --layers 18-19\n" in result.stdout
    assert (
        "  mer-store pull REMOTE --modality audio --level frame --layers 18-19\n" in result.stdout
    )
    assert "5 parts checked, 0 findings" in shell("verify").stderr


def test_repair_pulls_what_was_lost_from_a_remote(shell):
    before = shell.feature_set.ragged([18, 19], IDS)
    shell("push remote")
    cut(shell)
    cut(shell, 3)
    result = shell("repair --from remote")
    assert "to be made again" not in result.stdout
    assert "7 parts checked, 0 findings" in shell("verify --deep").stderr
    after = Store.open("store").features("audio").ragged([18, 19], IDS)
    assert all((one == other).all() for one, other in zip(before, after, strict=True))


def test_what_the_remote_does_not_have_either_is_named(shell):
    shell("push remote --layers 18")
    cut(shell)
    result = shell("repair --from remote")
    assert "layers 19 of 1 clips: clip0" in result.stdout


def test_repair_in_json(shell):
    cut(shell)
    facts = json.loads(shell("repair --json").stdout)
    assert [moved["clip_ids"] for moved in facts["moved"]] == [["clip0"]]
    assert facts["missing"][0]["layers"] == [18, 19]
    assert json.loads(shell("repair --json").stdout) == {"moved": [], "missing": []}


def test_repair_exits_with_1_where_something_is_not_ours(shell, monkeypatch):
    cut(shell)

    def refuse(path, to):
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(os, "rename", refuse)
    assert "belongs to another user" in shell("repair", code=1).stdout


def test_compact_and_prune(shell):
    assert "would copy 7 clips of 7 parts" in shell("compact --dry-run").stdout
    assert "nothing to prune" in shell("prune").stderr
    assert "copied 7 clips of 7 parts" in shell("compact").stdout
    assert "nothing to compact" in shell("compact").stderr
    result = shell("prune")
    assert result.stdout.count("superseded") == 7
    assert "run again with --yes" in result.stderr
    assert len(Store.open("store").features("audio").part_ids()) == 8
    result = shell("prune --yes")
    assert result.stdout.count("no longer seen; to be deleted in 60 minutes") == 7
    assert "run again then" in result.stderr
    assert len(Store.open("store").features("audio").part_ids()) == 1
    facts = json.loads(shell("prune --yes --older-than 0 --json").stdout)
    assert facts["bytes_freed"] == sum(item["n_bytes"] for item in facts["pruned"]) > 0
    assert facts["bytes_to_free"] == 0
    assert len(list((shell.feature_set.path / "parts").iterdir())) == 1
    assert "1 parts checked, 0 findings" in shell("verify --deep").stderr


def test_compact_prunes_at_once_on_demand(shell):
    shell("compact --prune --part-clips 4")
    assert len(Store.open("store").features("audio").part_ids()) == 2
    result = shell("compact --prune --dry-run", code=2)
    assert "expected one of them" in result.stderr


def test_compact_exits_with_1_where_something_is_damaged(shell):
    cut(shell)
    result = shell("compact", code=1)
    assert "left 7 parts as they are" in result.stdout
    assert "layer 19, clips clip0" in result.stdout
    shell("repair")
    shell("compact")
    assert len(Store.open("store").features("audio").clip_ids) == 6


@pytest.mark.parametrize("command", ["verify", "repair", "compact", "prune"])
def test_no_store_is_wrong_use(shell, command):
    assert "not a store" in shell(f"{command} --store nowhere", code=2).stderr
