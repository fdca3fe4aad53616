"""Parquet: read back by pyarrow and pandas."""

import sys

import numpy as np
import pytest
from part_factory import digest_of, make_set, ok_clip, part_folder, write_part

from mer_store.clips.clip_list import Clip, ClipList
from mer_store.errors import StoreDamagedError, UsageError
from mer_store.spec import Spec
from mer_store.store.store import Store
from mer_store.store.writer import ClipRows
from pipelines.exchange import arrow_rows
from pipelines.exchange.options import ExportOptions
from pipelines.exchange.parquet import export_parquet

parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def utterances(tmp_path):
    feature_set = make_set(tmp_path / "store", "utterance")
    write_part(feature_set, {"b": 1, "a": 1}, (17, 18))
    write_part(feature_set, {"c": 1}, (18,))
    write_part(feature_set, [ClipRows("e", "empty", "no speech", digest_of("e"))], (17, 18))
    return feature_set


@pytest.fixture
def frames(tmp_path):
    feature_set = make_set(tmp_path / "store", "frame")
    clips = [
        ok_clip(clip_id, (15,), n_rows) for clip_id, n_rows in (("a", 3), ("没脸", 1), ("b", 9))
    ]
    write_part(feature_set, [*clips, ClipRows("f", "failed", "cut short")], (15,))
    return feature_set


def export(folder, to, clip_list=None, code=0, **options):
    found = export_parquet(Store.open(folder), clip_list, to, ExportOptions(**options))
    assert found == code
    return parquet.read_table(to)


def test_utterances(utterances, tmp_path):
    table = export(tmp_path / "store", tmp_path / "x.parquet")
    assert table.column_names == ["clip_id", "status", "reason", "layer_17", "layer_18"]
    rows = {row["clip_id"]: row for row in table.to_pylist()}
    assert sorted(rows) == ["a", "b", "c", "e"]
    assert (rows["e"]["status"], rows["e"]["reason"]) == ("empty", "no speech")
    assert rows["e"]["layer_18"] is None
    assert rows["c"]["layer_17"] is None
    assert (rows["c"]["status"], rows["c"]["reason"]) == ("ok", None)
    for clip_id, layer in (("a", 17), ("a", 18), ("b", 18), ("c", 18)):
        expected = utterances.read([layer], [clip_id])[0, 0].tolist()
        assert rows[clip_id][f"layer_{layer}"] == expected
    column = table.schema.field("layer_18").type
    assert (column.list_size, str(column.value_type)) == (4, "float")
    assert Spec.from_json(table.schema.metadata[b"mer_store_spec"].decode()) == utterances.spec


def test_frames(frames, tmp_path):
    table = export(tmp_path / "store", tmp_path / "x.parquet", level="frame")
    rows = {row["clip_id"]: row for row in table.to_pylist()}
    for clip_id in ("a", "b", "没脸"):
        expected = frames.ragged([15], [clip_id])[0][:, 0].tolist()
        assert rows[clip_id]["layer_15"] == expected
    assert rows["f"]["layer_15"] is None
    assert rows["f"]["reason"] == "cut short"


@pytest.mark.parametrize("level", ["utterance", "frame"])
def test_row_groups_are_small(tmp_path, monkeypatch, level):
    feature_set = make_set(tmp_path / "store", level)
    ids = [f"clip{number:02}" for number in range(20)]
    write_part(
        feature_set, {c: 1 if level == "utterance" else n % 4 + 1 for n, c in enumerate(ids)}
    )
    whole = export(tmp_path / "store", tmp_path / "whole.parquet", level=level)
    monkeypatch.setattr(arrow_rows, "BLOCK_BYTES", 5 * 4 * 4)
    table = export(tmp_path / "store", tmp_path / "x.parquet", level=level)
    assert table.equals(whole)
    facts = parquet.ParquetFile(tmp_path / "x.parquet").metadata
    sizes = [facts.row_group(n).num_rows for n in range(facts.num_row_groups)]
    assert max(sizes) <= 5
    assert sum(sizes) == 20


def test_pandas_reads_it(utterances, tmp_path):
    pandas = pytest.importorskip("pandas")
    export(tmp_path / "store", tmp_path / "x.parquet", layers="18")
    data = pandas.read_parquet(tmp_path / "x.parquet").set_index("clip_id")
    ok = data[data.status == "ok"]
    np.testing.assert_array_equal(
        np.stack(ok.layer_18), utterances.read([18], ok.index.tolist())[:, 0]
    )


def test_clips_of_a_list(utterances, tmp_path, capsys):
    listed = ClipList((Clip("a"), Clip("nowhere")))
    table = export(tmp_path / "store", tmp_path / "x.parquet", listed, code=1)
    assert table["clip_id"].to_pylist() == ["a"]
    assert "1 ok, 1 listed ones not extracted" in capsys.readouterr().err


def test_a_list_of_which_nothing_is_there(utterances, tmp_path):
    table = export(tmp_path / "store", tmp_path / "x.parquet", ClipList((Clip("no"),)), code=1)
    assert len(table) == 0
    assert table.column_names[-1] == "layer_18"


def test_several_feature_sets_are_listed(utterances, tmp_path):
    make_set(tmp_path / "store", "utterance", recipe="other")
    with pytest.raises(UsageError, match=r"one file holds one feature set(.|\n)*recipe other"):
        export(tmp_path / "store", tmp_path / "x.parquet")
    export(tmp_path / "store", tmp_path / "x.parquet", recipe="default")


def test_damage_leaves_no_file(tmp_path):
    feature_set = make_set(tmp_path / "store", "utterance")
    record = write_part(feature_set, {"a": 1})
    shard = part_folder(feature_set, record) / "18" / "c" / "0" / "0"
    shard.chmod(0o644)
    shard.write_bytes(b"x" + shard.read_bytes()[1:])
    with pytest.raises(StoreDamagedError, match="clips a"):
        export(tmp_path / "store", tmp_path / "x.parquet")
    assert [found.name for found in tmp_path.iterdir()] == ["store"]


def test_what_cannot_be_written_is_said(utterances, tmp_path, monkeypatch):
    to = tmp_path / "x.parquet"
    with pytest.raises(UsageError, match="--policy skip: parquet files say"):
        export(tmp_path / "store", to, policy="skip")
    monkeypatch.setitem(sys.modules, "pipelines.exchange.arrow_rows", None)
    with pytest.raises(UsageError, match=r"pip install 'mer-store\[arrow\]'"):
        export(tmp_path / "store", to)
    assert not to.exists()
