"""HDF5: an exact round trip, read by h5py alone, and files of others refused."""

import json
import shutil

import h5py
import numpy as np
import pytest
from part_factory import digest_of, make_set, make_spec, ok_clip, part_folder, write_part

from mer_store.clips.clip_list import Clip, ClipList
from mer_store.errors import MerStoreError, StoreDamagedError, UsageError
from mer_store.store.store import Store
from mer_store.store.verify import verify
from mer_store.store.writer import ClipRows
from pipelines.exchange import chosen
from pipelines.exchange.hdf5 import export_hdf5, import_hdf5
from pipelines.exchange.options import ExportOptions, ImportOptions


def images(n_rows):
    return {
        "images": {
            "time_s": np.arange(n_rows) / 25.0,
            "box": np.full((n_rows, 4), n_rows, np.float32),
            "found": np.arange(n_rows) % 2 == 0,
        }
    }


@pytest.fixture
def full(tmp_path):
    """Return a store with everything that a file must carry."""
    visual = make_set(tmp_path / "store", "frame", modality="visual")
    write_part(visual, [ok_clip("a", (15,), 3, tables=images(3)), ok_clip("没脸", (15,), 2)], (15,))
    write_part(visual, [ok_clip("b", (15,), 300, tables=images(0))], (15,))
    write_part(visual, [ClipRows("noface", "empty", "no face", digest_of("noface"), 7, 8)], (15,))
    audio = make_set(tmp_path / "store", "utterance")
    wide = ok_clip("wide", (17, 18), 1)
    wide.layers[18][0, 0] = 1e6
    write_part(audio, [wide, ok_clip("a", (17, 18), 1)], (17, 18))
    write_part(audio, {"b": 1}, (17,))
    write_part(audio, [ClipRows("b", "failed", "out of memory", digest_of("b"))], (18,))
    write_part(audio, [ClipRows("gone", "failed", "no such file: x")], (17, 18))
    write_part(audio, {"c": 1}, (18, "embed"))
    float32 = make_set(tmp_path / "store", "utterance", stored_dtype="float32")
    odd = ok_clip("a", n_rows=1)
    odd.layers[18][:] = np.float32(1) / 3
    write_part(float32, [odd])
    return Store.open(tmp_path / "store")


def contents(store):
    """Return all that a store says and holds, whatever parts it is in."""
    found = {}
    for feature_set in store.feature_sets():
        ids = [clip_id for clip_id, _, _ in feature_set.outcomes()]
        ledger = feature_set.ledger(ids)
        values, tables = {}, {}
        for column, layer in enumerate(feature_set.layers):
            there = [
                c
                for c, ok in zip(ids, ledger.has(feature_set.layers)[:, column], strict=True)
                if ok
            ]
            runs = feature_set.ragged([layer], there)
            values[layer] = {
                clip_id: (run.shape, run.astype(np.float32).tobytes())
                for clip_id, run in zip(there, runs, strict=True)
            }
        for clip_id in ids:
            for table in {name for part in feature_set.index.parts for name in part.tables}:
                try:
                    [columns] = feature_set.table(table, [clip_id])
                except UsageError:
                    continue
                tables[clip_id, table] = {
                    name: (rows.dtype, rows.shape, rows.tobytes()) for name, rows in columns.items()
                }
        found[feature_set.spec.to_json()] = (
            list(feature_set.outcomes()), ledger.digest.tolist(), ledger.n_bytes.tolist(),
            ledger.mtime_ns.tolist(), ledger.layers, ledger.layer_status.tolist(), values, tables,
        )  # fmt: skip
    return found


def parts_of(store):
    return sorted(part for found in store.feature_sets() for part in found.part_ids())


def exported(store, to, clip_list=None, **options):
    assert export_hdf5(store, clip_list, to, ExportOptions(**options)) == 0
    return to


def imported(path, to, clip_list=None, **options):
    store = Store.create(to)
    assert import_hdf5(path, store, clip_list, ImportOptions(**options)) == 0
    return store


# ---- round trip ----------------------------------------------------------------------------------


@pytest.mark.parametrize("part_clips", [1024, 1])
def test_the_way_back_is_exact(full, tmp_path, part_clips):
    path = exported(full, tmp_path / "all.h5")
    back = imported(path, tmp_path / "back", part_clips=part_clips)
    assert contents(back) == contents(full)
    assert verify(back, deep=True) == []


def test_a_second_import_does_nothing(full, tmp_path, capsys):
    path = exported(full, tmp_path / "all.h5")
    back = imported(path, tmp_path / "back")
    before = parts_of(back)
    capsys.readouterr()
    assert import_hdf5(path, back, None, ImportOptions()) == 0
    assert parts_of(back) == before
    assert "0 clips taken, 5 unchanged" in capsys.readouterr().err
    assert import_hdf5(path, full, None, ImportOptions()) == 0
    assert contents(back) == contents(full)


def test_blocks_smaller_than_a_clip(full, tmp_path, monkeypatch):
    monkeypatch.setattr(chosen, "BLOCK_BYTES", 16)
    back = imported(exported(full, tmp_path / "all.h5"), tmp_path / "back")
    assert contents(back) == contents(full)


def test_what_the_store_lacks_is_added(full, tmp_path):
    path = exported(full, tmp_path / "all.h5")
    back = imported(path, tmp_path / "back", modality="audio", layers="17", stored_dtype="float16")
    [audio] = back.feature_sets()
    assert audio.layers == (17,)
    failed = ClipRows("a", "failed", "out of memory", digest_of("a"))
    write_part(audio, [failed], (18,))
    imported(path, back.path)
    ours, theirs = contents(full), contents(back)
    assert ours.keys() == theirs.keys()
    for spec, (outcomes, *_, values, tables) in ours.items():
        assert theirs[spec][0] == outcomes
        assert theirs[spec][-2:] == (values, tables)


def test_a_clip_of_other_media_is_left_as_it_is(full, tmp_path, capsys):
    path = exported(full, tmp_path / "all.h5", modality="visual")
    back = make_set(tmp_path / "back", "frame", modality="visual")
    write_part(back, [ok_clip("a", (15,), 9, seed=5, digest=digest_of("new media"))], (15,))
    mine = back.ragged([15], ["a"])[0]
    assert import_hdf5(path, Store.open(tmp_path / "back"), None, ImportOptions()) == 1
    assert "from other media: a" in capsys.readouterr().err
    back.refresh()
    np.testing.assert_array_equal(back.ragged([15], ["a"])[0], mine)
    assert back.clip_ids == ("a", "b", "没脸")


def test_a_part_of_a_store(full, tmp_path, capsys):
    listed = ClipList((Clip("b"), Clip("a"), Clip("nowhere")))
    path = tmp_path / "some.h5"
    options = ExportOptions(
        modality="audio", fingerprint=make_spec("utterance").fingerprint, layers="17"
    )
    assert export_hdf5(full, listed, path, options) == 1
    assert "2 ok, 1 listed ones not extracted" in capsys.readouterr().err
    back = imported(path, tmp_path / "back")
    [audio] = back.feature_sets()
    assert (audio.clip_ids, audio.layers) == (("a", "b"), (17,))
    assert import_hdf5(path, Store.create(tmp_path / "c"), listed, ImportOptions()) == 1
    only = imported(path, tmp_path / "d", ClipList((Clip("b"),)))
    assert only.feature_sets()[0].clip_ids == ("b",)


# ---- the file ------------------------------------------------------------------------------------


def test_any_hdf5_reader_reads_it(full, tmp_path):
    path = exported(full, tmp_path / "all.h5")
    spec = make_spec("utterance")
    audio = full.features("audio", fingerprint=spec.fingerprint)
    with h5py.File(path) as file:
        group = file[f"audio/{spec.name}"]
        assert json.loads(group.attrs["spec"])["model"] == "tiny"
        ids = group["clip_ids"].asstr()[:].tolist()
        assert sorted(ids) == ["a", "b", "c", "gone", "wide"]
        offsets, rows = group["offsets"][:], group["layers/18"]
        assert rows.fletcher32
        assert rows.dtype == np.float32  # one of its clips needed it
        assert group["layers/17"].dtype == np.float16
        for clip, clip_id in enumerate(ids):
            mine = rows[offsets[clip] : offsets[clip + 1]]
            if clip_id in ("a", "wide", "c"):
                np.testing.assert_array_equal(mine, audio.read([18], [clip_id])[:, 0])
            else:
                assert np.isnan(mine).all()
        by_id = dict(zip(ids, group["status"].asstr()[:].tolist(), strict=True))
        assert (by_id["gone"], by_id["a"]) == ("failed", "ok")
        reason = group["reasons"].asstr()[group["reason"][ids.index("gone")]]
        assert reason == "no such file: x"


def test_a_file_that_is_there_is_never_changed(full, tmp_path):
    path = tmp_path / "all.h5"
    path.write_bytes(b"mine")
    with pytest.raises(UsageError, match="is there already"):
        export_hdf5(full, None, path, ExportOptions())
    assert path.read_bytes() == b"mine"
    assert [found.name for found in tmp_path.iterdir() if "part" in found.name] == []


def test_damage_in_the_store_leaves_no_file(tmp_path):
    feature_set = make_set(tmp_path / "store", "utterance")
    record = write_part(feature_set, {"a": 1})
    shard = part_folder(feature_set, record) / "18" / "c" / "0" / "0"
    shard.chmod(0o644)
    shard.write_bytes(b"x" + shard.read_bytes()[1:])
    with pytest.raises(StoreDamagedError, match="clips a"):
        export_hdf5(Store.open(tmp_path / "store"), None, tmp_path / "x.h5", ExportOptions())
    assert [found.name for found in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"policy": "zeros"}, "--policy zeros: hdf5 files say"),
        ({"name": "x"}, "--name x"),
        ({"modality": "text"}, "no feature set fits modality text"),
        ({"layers": "99"}, "no layer 99"),
    ],
)
def test_what_cannot_be_exported_is_said(full, tmp_path, options, said):
    with pytest.raises(UsageError, match=said):
        export_hdf5(full, None, tmp_path / "x.h5", ExportOptions(**options))
    assert not (tmp_path / "x.h5").exists()


def test_what_is_not_in_the_file_is_said(full, tmp_path):
    path = exported(full, tmp_path / "all.h5")
    with pytest.raises(UsageError, match=r"no feature set fits\. There is:\n  audio/tiny-utt"):
        import_hdf5(path, Store.create(tmp_path / "back"), None, ImportOptions(modality="text"))


# ---- files of others -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    feature_set = make_set(folder / "store", "utterance")
    write_part(feature_set, [ok_clip("a", n_rows=1), ok_clip("b", n_rows=1, tables=images(2))])
    return exported(Store.open(folder / "store"), folder / "small.h5")


GROUP = f"audio/{make_spec('utterance').name}"


def put(group, name, values, **more):
    del group[name]
    values = np.asarray(values)
    chunks = more.pop("chunks", values.shape)
    group.create_dataset(name, data=values, chunks=chunks, **{"fletcher32": True, **more})


def set_text(group, name, text):
    del group.attrs[name]
    group.attrs[name] = np.bytes_(text)


def external_link(group):
    del group["layers/18"]
    group["layers/18"] = h5py.ExternalLink("/dev/stdin", "/x")


def soft_link(group):
    del group["layers/18"]
    group["layers/18"] = h5py.SoftLink(f"{group.name}/clip_ids")


def external_storage(group):
    del group["layers/18"]
    group.create_dataset("layers/18", (2, 4), "f2", external=[("/etc/passwd", 0, 16)])


def virtual(group):
    del group["layers/18"]
    layout = h5py.VirtualLayout((2, 4), "f2")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (2, 4))
    group.create_virtual_dataset("layers/18", layout)


def never_written(group):
    del group["layers/18"]
    group.create_dataset("layers/18", (2, 4), "f2", chunks=(2, 4), fletcher32=True)


def huge_claim(group):
    del group["layers/18"]
    shape = (1 << 40, 4)
    group.create_dataset("layers/18", shape, "f2", chunks=(1024, 4), fletcher32=True)
    put(group, "offsets", [0, 1 << 39, 1 << 40])


def spec_of(**changes):
    return make_spec("utterance", **changes).to_json()


HOSTILE = {
    "external link": (external_link, "soft or external link"),
    "soft link": (soft_link, "soft or external link"),
    "external storage": (external_storage, "expected chunks in this file"),
    "virtual": (virtual, "expected chunks in this file"),
    "never written": (never_written, "more than the file has bytes for"),
    "huge claim": (huge_claim, "rows do not fit"),
    "compressed": (
        lambda g: put(g, "layers/18", np.ones((2, 4), "f2"), compression="gzip"),
        "no compression",
    ),
    "no checksum": (
        lambda g: put(g, "layers/18", np.ones((2, 4), "f2"), fletcher32=False),
        "Fletcher-32",
    ),
    "objects": (
        lambda g: put(g, "clip_ids", [b"a", b"b"], dtype=h5py.string_dtype(), fletcher32=False),
        "expected plain numbers or text of fixed length",
    ),
    "references": (
        lambda g: put(g, "n_bytes", np.array([g.ref, g.ref], h5py.ref_dtype), fletcher32=False),
        "expected plain numbers",
    ),
    "compound": (
        lambda g: put(g, "layers/18", np.zeros((2, 4), [("a", "f2")])),
        "expected plain numbers",
    ),
    "float64": (lambda g: put(g, "layers/18", np.ones((2, 4))), "expected float16 or float32"),
    "complex": (lambda g: put(g, "layers/18", np.ones((2, 4), "c8")), "expected plain numbers"),
    "a cube": (lambda g: put(g, "layers/18", np.ones((2, 4, 1), "f2")), "expected 2 dimensions"),
    "rows that lack": (lambda g: put(g, "layers/18", np.ones((1, 4), "f2")), "one row a row"),
    "NaN": (lambda g: put(g, "layers/18", np.full((2, 4), np.nan, "f2")), "not finite"),
    "an id twice": (lambda g: put(g, "clip_ids", np.array([b"a", b"a"])), "stands twice"),
    "an id with a line": (lambda g: put(g, "clip_ids", np.array([b"a", b"b\n"])), "cannot be one"),
    "an id that is no text": (lambda g: put(g, "clip_ids", np.array([b"a", b"\xff"])), "not UTF-8"),
    "a long id": (lambda g: put(g, "clip_ids", np.array([b"a", b"b" * 9000])), "texts of 9000"),
    "a bad digest": (lambda g: put(g, "digest", np.array([b"a b", b""])), "cannot be one"),
    "offsets down": (lambda g: put(g, "offsets", [0, 2, 1]), "ascending"),
    "offsets apart": (lambda g: put(g, "offsets", [0, 0, 2]), "do not fit the statuses"),
    "a status": (lambda g: put(g, "layer_status", np.uint8([[9], [1]])), "other than status"),
    "a reason": (lambda g: put(g, "reason", np.int32([5, -1])), "places in reasons"),
    "a path": (lambda g: set_text(g, "layers", '["../../x"]'), "layers"),
    "layers twice": (lambda g: set_text(g, "layers", '["18","18"]'), "each once"),
    "no layers": (lambda g: set_text(g, "layers", "[]"), "layers"),
    "JSON bomb": (lambda g: set_text(g, "layers", "[" * 60000), "layers"),
    "another spec": (lambda g: set_text(g, "spec", spec_of(recipe="other")), "its spec is of"),
    "a spec with a path": (
        lambda g: set_text(g, "spec", spec_of().replace("tiny", "../tiny")),
        "model name",
    ),
    "no spec": (lambda g: g.attrs.__delitem__("spec"), "no attribute spec"),
    "a column missing": (lambda g: g.__delitem__("mtime_ns"), "mtime_ns"),
    "a group for a dataset": (
        lambda g: (g.__delitem__("digest"), g.create_group("digest")),
        "expected a dataset",
    ),
    "a table's path": (
        lambda g: g["tables"].move("images", "offsets"),
        "cannot be used",
    ),
    "table rows": (
        lambda g: (put(g, "tables/images/has", [0, 1]), put(g, "tables/images/offsets", [0, 1, 2])),
        "no such table",
    ),
    "another modality": (lambda g: g.file.create_group("smell"), "expected groups named"),
    "another format": (lambda g: g.file.attrs.__setitem__("mer_store_format", 2), "not of format"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(small, tmp_path, name):
    change, said = HOSTILE[name]
    path = tmp_path / "hostile.h5"
    shutil.copy(small, path)
    with h5py.File(path, "a", libver="latest") as file:
        change(file[GROUP])
    store = Store.create(tmp_path / "store")
    with pytest.raises(MerStoreError, match=said):
        import_hdf5(path, store, None, ImportOptions())
    assert parts_of(store) == []


@pytest.mark.parametrize("data", [b"", b"x" * 5000, b"\x89HDF\r\n\x1a\n" + b"\0" * 4000])
def test_what_is_no_hdf5_is_refused(tmp_path, data):
    path = tmp_path / "x.h5"
    path.write_bytes(data)
    with pytest.raises(UsageError, match="not an HDF5 file"):
        import_hdf5(path, Store.create(tmp_path / "store"), None, ImportOptions())


def test_a_cut_file_is_refused(small, tmp_path):
    path = tmp_path / "cut.h5"
    path.write_bytes(small.read_bytes()[:-100])
    with pytest.raises(UsageError, match="not an HDF5 file, or cut short"):
        import_hdf5(path, Store.create(tmp_path / "store"), None, ImportOptions())


def test_flipped_bits_change_no_number(small, tmp_path):
    data = small.read_bytes()
    whole = contents(imported(small, tmp_path / "whole"))
    path = tmp_path / "flipped.h5"
    n_refused = 0
    for number, place in enumerate(range(7, len(data), len(data) // 60)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << (number % 8)
        path.write_bytes(flipped)
        store = Store.create(tmp_path / f"store{number}")
        try:
            import_hdf5(path, store, None, ImportOptions())
        except MerStoreError:
            n_refused += 1
            assert parts_of(store) == []
        else:
            assert contents(store) == whole
    assert n_refused > 5
