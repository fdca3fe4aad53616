"""Damaged, missing or hostile bytes raise and are named; they are never read as zeros."""

import json
import shutil

import numpy as np
import pytest
import zarr
from part_factory import make_set, ok_clip, part_folder, write_part

from mer_store.errors import StoreDamagedError
from mer_store.store.commit import derive_record
from mer_store.store.feature_set import FeatureSet
from mer_store.store.record import CommitRecord
from mer_store.store.verify import verify
from mer_store.store.writer import ClipRows

IDS = [f"clip{n:03d}" for n in range(20)]
TABLE = {"images": {"time_s": np.arange(3.0)}}


@pytest.fixture
def feature_set(tmp_path):
    """One part: 20 clips of 100 rows, so that a chunk of 256 rows holds two clips and a half."""
    feature_set = make_set(tmp_path)
    clips = [ok_clip(c, (18, 19), 100, tables=TABLE) for c in IDS]
    write_part(feature_set, [*clips, ClipRows("bad", "failed", "truncated")], (18, 19))
    return feature_set


@pytest.fixture
def record(feature_set):
    return feature_set.records()[0]


def shard(feature_set, record, name="18"):
    path = part_folder(feature_set, record) / name / "c" / "0" / "0"
    path.chmod(0o644)
    return path


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_a_sound_store_has_no_findings(feature_set):
    assert verify(feature_set, deep=True) == []


def test_a_flipped_bit_is_named_with_its_clips(feature_set, record):
    stride = 256 * 4 * 2 + 4
    flip(shard(feature_set, record), 3 * stride + 100)  # rows 768..1023: clips 7..10
    with pytest.raises(StoreDamagedError, match="checksum") as caught:
        list(feature_set.iter_parts([18]))
    assert record.part_id in str(caught.value)
    assert "layer 18" in str(caught.value)
    assert "clips clip007, clip008, clip009, clip010." in str(caught.value)
    with pytest.raises(StoreDamagedError, match=r"checksum.* layer 18, clips clip007\."):
        feature_set.ragged([18, 19], IDS)
    (finding,) = verify(feature_set)
    assert finding.clip_ids == ("clip007", "clip008", "clip009", "clip010")
    assert finding.layers == (18,)
    assert finding.part_id == record.part_id
    assert len(feature_set.ragged([18], [c for c in IDS if c != "clip007"])) == 19
    assert len(feature_set.ragged([19], IDS)) == 20


@pytest.mark.parametrize("place", ["data", "padding", "chunk crc", "index", "index crc"])
def test_every_byte_of_a_shard_is_guarded(feature_set, record, place):
    stride, n_chunks = 256 * 4 * 2 + 4, 8
    at = {
        "data": 7,
        "padding": n_chunks * stride - 10,
        "chunk crc": stride - 1,
        "index": n_chunks * stride + 3,
        "index crc": -1,
    }[place]
    sound = feature_set.ragged([18], IDS)
    flip(shard(feature_set, record), at)
    again = FeatureSet(feature_set.path, feature_set.spec)
    with pytest.raises(StoreDamagedError, match="layer 18"):
        list(again.iter_parts([18]))
    if place in ("padding", "chunk crc"):  # no clip's rows: a clip is checked by its own checksum
        for rows, expected in zip(again.ragged([18], IDS), sound, strict=True):
            np.testing.assert_array_equal(rows, expected)
    else:
        with pytest.raises(StoreDamagedError, match="layer 18"):
            again.ragged([18], IDS)
    assert {f.layers for f in verify(feature_set)} == {(18,)}


@pytest.mark.parametrize("how", ["deleted", "emptied", "truncated", "grown", "no folder"])
@pytest.mark.parametrize("name", ["18", "images/time_s", "offsets"])
def test_a_shard_that_is_not_whole_is_never_zeros(feature_set, record, how, name):
    path = part_folder(feature_set, record).joinpath(
        name, "c", *["0"] * len(record.arrays[name].shape)
    )
    path.chmod(0o644)
    if how == "deleted":
        path.unlink()
    elif how == "no folder":
        shutil.rmtree(path.parent)
    else:
        data = path.read_bytes()
        path.write_bytes({"emptied": b"", "truncated": data[:-8], "grown": data + b"\0"}[how])
    if name == "18":
        with pytest.raises(StoreDamagedError, match=r"layer 18, clips clip000.* and 15 more"):
            feature_set.ragged([18], IDS)
    if name == "images/time_s":
        with pytest.raises(StoreDamagedError, match="table images, clips clip000"):
            feature_set.table("images", IDS)
    (finding,) = verify(feature_set)
    assert finding.clip_ids == tuple(IDS)
    assert finding.path.endswith(str(path.relative_to(feature_set.path)))
    assert finding.layers == {"18": (18,), "images/time_s": ()}.get(name, (18, 19))


def test_a_part_that_vanished(feature_set, record):
    shutil.rmtree(part_folder(feature_set, record))
    with pytest.raises(StoreDamagedError, match="missing"):
        feature_set.ragged([18], IDS)
    (finding,) = verify(feature_set)
    assert (finding.layers, finding.clip_ids) == ((18, 19), tuple(IDS))


def test_a_symbolic_link_is_refused_even_to_the_right_bytes(feature_set, record, tmp_path):
    path = shard(feature_set, record)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreDamagedError, match="symbolic link"):
        feature_set.ragged([18], IDS)
    assert any("symbolic link" in finding.problem for finding in verify(feature_set))


def test_a_linked_folder_is_refused(feature_set, record, tmp_path):
    folder = part_folder(feature_set, record) / "18"
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreDamagedError, match="symbolic link"):
        feature_set.ragged([18], IDS)
    assert verify(feature_set)


def test_a_stranger_among_the_files_is_found(feature_set, record):
    (part_folder(feature_set, record) / "18" / "c" / "0" / "1").write_bytes(b"x")
    (finding,) = verify(feature_set)
    assert (finding.problem, finding.clip_ids) == ("not in the commit record", ())


def test_unverified_reading_is_a_choice(feature_set, record):
    flip(shard(feature_set, record), 7)
    feature_set.ragged([18], IDS, verify=False)
    with pytest.raises(StoreDamagedError):
        feature_set.ragged([18], IDS)


def test_a_clip_and_a_chunk_are_checked_once(feature_set, record, monkeypatch):
    from mer_store.store import shard_reader

    chunks, clips = [], []
    crc_of, check_of = shard_reader.crc_of, shard_reader.check_of
    monkeypatch.setattr(shard_reader, "crc_of", lambda data: chunks.append(1) or crc_of(data))
    monkeypatch.setattr(shard_reader, "check_of", lambda rows: clips.append(1) or check_of(rows))
    feature_set.ragged([18], IDS)
    n_of_checksums = len(chunks)  # the clips' checksums are an array with chunks of its own
    assert (n_of_checksums, len(clips)) == (1, 20)
    feature_set.ragged([18], IDS)
    assert (len(chunks), len(clips)) == (n_of_checksums, 20)
    reader = shard_reader.ShardReader(part_folder(feature_set, record), "18", record.arrays["18"])
    for _ in range(2):
        reader.take(np.arange(2000), verify=True)
        assert len(chunks) == n_of_checksums + 8
    monkeypatch.setattr(shard_reader, "check_of", None)
    reader.copy(0, np.empty((100, 4), np.float16), verify=True, clip=0)  # its chunk is checked


def test_a_clip_is_read_without_the_rest_of_its_chunks(feature_set, record):
    flip(
        shard(feature_set, record), 100 * 4 * 2 + 7
    )  # the second clip's first row, in the first one's chunk
    (first,) = feature_set.ragged([18], IDS[:1])
    assert len(first) == 100
    with pytest.raises(StoreDamagedError, match=r"clip's checksum.* clips clip001\."):
        feature_set.ragged([18], IDS[:2])


@pytest.mark.parametrize(
    ("path", "match"),
    [
        (("files",), "leaves the part"),
        (("arrays",), "leaves the part"),
        (("arrays", "18", "dtype"), "dtype"),
        (("arrays", "18", "shape"), "shape|count"),
        (("arrays", "18", "chunk_rows"), "chunk_rows|count"),
        (("ledger", 0, "n_rows"), "rows"),
        (("ledger", 0, "clip_id"), "ledger"),
        (("part_id",), "part_id"),
        (("format",), "format"),
        (("clip_ids",), "clip_ids"),
        (("layers",), "20"),
    ],
)
def test_a_hostile_record_is_refused(record, path, match):
    values = json.loads(record.to_json())
    hostile = {
        "files": {"../../x": {"size": 1, "sha256": "0" * 64}},
        "arrays": {**values["arrays"], "/etc": values["arrays"]["18"]},
        "dtype": "object",
        "shape": [1 << 62, 4],
        "chunk_rows": 0,
        "n_rows": 99,
        "clip_id": "clip001",
        "part_id": "../x",
        "format": 2,
        "clip_ids": ["x"],
        "layers": ["20"],
    }[path[-1]]
    inner = values
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = hostile
    with pytest.raises(StoreDamagedError, match=match):
        CommitRecord.from_json(json.dumps(values), "here")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 1}', "null", '{"format": 1, "files": 3}']
)
def test_a_broken_record_is_named(feature_set, record, text):
    path = feature_set.path / "commits" / f"{record.part_id}.json"
    path.chmod(0o644)
    path.write_text(text)
    feature_set.forget()
    with pytest.raises(StoreDamagedError, match=record.part_id):
        feature_set.ledger(IDS)
    (finding,) = verify(feature_set)
    assert finding.part_id == record.part_id


def test_records_survive_their_own_text(record):
    assert CommitRecord.from_json(record.to_json(), "here") == record
    assert record.expected_part_id() == record.part_id


def test_the_record_is_a_function_of_the_folder(feature_set, record):
    assert derive_record(part_folder(feature_set, record)) == record


def test_metadata_that_tells_another_story(feature_set, record):
    path = part_folder(feature_set, record) / "18" / "zarr.json"
    values = json.loads(path.read_text())
    values["shape"] = [100, 4]
    path.chmod(0o644)
    path.write_text(json.dumps(values))
    (finding,) = verify(feature_set)
    assert "bytes" in finding.problem
    assert finding.layers == (18,)


def rewrite(feature_set, record, **changes):
    """Commit a part again whose record and files agree, yet say something else."""
    from mer_store.store.commit import ATTRIBUTE, file_facts
    from mer_store.store.record import FileFacts

    part = part_folder(feature_set, record)
    values = json.loads(record.to_json()) | changes
    for path in values["files"]:
        facts = file_facts(part, path)
        values["files"][path] = {"size": facts.n_bytes, "sha256": facts.sha256}
    group = json.loads((part / "zarr.json").read_text())
    group["attributes"][ATTRIBUTE] = values | {
        "files": {p: f for p, f in values["files"].items() if p != "zarr.json"}
    }
    for name in group["consolidated_metadata"]["metadata"]:
        member = json.loads((part / name / "zarr.json").read_text())
        if member["node_type"] == "array":
            group["consolidated_metadata"]["metadata"][name] = member
    (part / "zarr.json").chmod(0o644)
    (part / "zarr.json").write_text(json.dumps(group))
    facts = FileFacts.of((part / "zarr.json").read_bytes())
    values["files"]["zarr.json"] = {"size": facts.n_bytes, "sha256": facts.sha256}
    commit = feature_set.path / "commits" / f"{record.part_id}.json"
    commit.chmod(0o644)
    commit.write_text(json.dumps(values))
    feature_set.forget()


def replace_array(part, name, values, **options):
    shutil.rmtree(part / name)
    return zarr.create_array(part / name, data=values, zarr_format=3, **options)


def test_offsets_that_do_not_end_at_the_rows(feature_set, record):
    part = part_folder(feature_set, record)
    offsets = zarr.open_array(part / "offsets", mode="r", zarr_format=3)[:]
    offsets[-1] -= 1
    shape = {"chunks": (21,), "shards": (21,), "compressors": None}
    replace_array(part, "offsets", offsets, **shape)
    info = json.loads(record.to_json())["arrays"]
    info["offsets"]["chunk_rows"] = None
    rewrite(feature_set, record, arrays=info)
    assert ["offsets differ" in f.problem for f in verify(feature_set)] == [True]


def irregular(feature_set, record, **options):
    """Rewrite layer 18 the way another program might."""
    part = part_folder(feature_set, record)
    values = zarr.open_array(part / "18", mode="r", zarr_format=3)[:]
    replace_array(part, "18", values, **options)
    changed = json.loads(record.to_json())
    changed["arrays"]["18"]["chunk_rows"] = None
    files = {p: f for p, f in changed["files"].items() if not p.startswith("18/")}
    written = [p for p in (part / "18").rglob("*") if p.is_file()]
    files |= {p.relative_to(part).as_posix(): {"size": 0, "sha256": "0" * 64} for p in written}
    rewrite(feature_set, record, arrays=changed["arrays"], files=files)
    return values


@pytest.mark.parametrize(
    "options",
    [
        {"chunks": (300, 3)},
        {"chunks": (300, 4), "compressors": zarr.codecs.GzipCodec()},
        {"chunks": (100, 4), "shards": (500, 4), "compressors": zarr.codecs.BloscCodec()},
    ],
)
def test_other_layouts_are_read_through_zarr(feature_set, record, options):
    values = irregular(feature_set, record, **options)
    for n, rows in enumerate(feature_set.ragged([18], IDS)):
        np.testing.assert_array_equal(rows[:, 0], values[100 * n : 100 * n + 100])
    ((_, _, arrays),) = feature_set.iter_parts([18, 19])
    np.testing.assert_array_equal(arrays[18], values)
    assert verify(feature_set, deep=True) == []


def test_a_chunk_missing_from_another_layout_is_never_zeros(feature_set, record):
    irregular(feature_set, record, chunks=(300, 4))
    (part_folder(feature_set, record) / "18" / "c" / "2" / "0").unlink()
    with pytest.raises(StoreDamagedError, match="layer 18"):
        feature_set.ragged([18], IDS)
    assert verify(feature_set)


def test_a_codec_we_do_not_know_is_never_opened(feature_set, record, monkeypatch):
    irregular(feature_set, record, chunks=(300, 4))
    path = part_folder(feature_set, record) / "18" / "zarr.json"
    values = json.loads(path.read_text())
    values["codecs"] = [{"name": "numcodecs.pickle", "configuration": {}}]
    path.write_text(json.dumps(values))
    rewrite(feature_set, feature_set.records()[0])
    monkeypatch.setattr(zarr, "open_array", lambda *a, **k: pytest.fail("opened"))
    with pytest.raises(StoreDamagedError, match=r"refused: codec 'numcodecs\.pickle'"):
        feature_set.ragged([18], IDS)
    assert any("refused" in finding.problem for finding in verify(feature_set))


def test_a_chunk_that_would_unpack_to_too_much_is_refused(feature_set, record):
    irregular(feature_set, record, chunks=(300, 4))
    path = part_folder(feature_set, record) / "18" / "zarr.json"
    values = json.loads(path.read_text())
    values["chunk_grid"]["configuration"]["chunk_shape"] = [1 << 40, 1 << 40]
    path.write_text(json.dumps(values))
    rewrite(feature_set, feature_set.records()[0])
    with pytest.raises(StoreDamagedError, match="refused: a chunk of"):
        feature_set.ragged([18], IDS)


def test_values_that_are_not_finite_are_found_when_deep(feature_set, record):
    part = part_folder(feature_set, record)
    values = zarr.open_array(part / "19", mode="r", zarr_format=3)[:]
    values[250, 2] = np.nan
    options = {"chunks": (256, 4), "shards": (2048, 4), "compressors": None}
    replace_array(part, "19", values, **options)
    changed = json.loads(record.to_json())
    changed["arrays"]["19"]["chunk_rows"] = None
    rewrite(feature_set, record, arrays=changed["arrays"])
    assert verify(feature_set) == []
    (finding,) = verify(feature_set, deep=True)
    assert (finding.layers, finding.clip_ids) == ((19,), ("clip002",))


def test_files_are_read_only(feature_set, record):
    for path in record.files:
        assert (part_folder(feature_set, record) / path).stat().st_mode & 0o777 == 0o444
    commit = feature_set.path / "commits" / f"{record.part_id}.json"
    assert commit.stat().st_mode & 0o777 == 0o444
