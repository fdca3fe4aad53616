"""Many clips read in spans, by threads side by side: the same rows, the same errors, nothing left behind."""

import os
import threading

import numpy as np
import pytest
from part_factory import make_set, ok_clip, part_folder, values_of, write_part

from mer_store.errors import StoreDamagedError
from mer_store.store import gather, index
from mer_store.store.mappings import Mapping
from mer_store.store.shard_file import ShardFile
from mer_store.store.shard_reader import ShardReader
from mer_store.store.store import Store
from mer_store.store.zarr_reader import ZarrReader

CHUNK_BYTES = 256 * 4 * 2 + 4
"""On disk, of a layer of four float16 columns."""
N_CLIPS = 600
"""In a part: three chunks, the last one not full."""


WAS_READ, HOLDS = ShardFile._was_read, Mapping.holds


@pytest.fixture(autouse=True, params=["once", "again, in memory", "again, on disk"])
def where(request, monkeypatch):
    """Chunks are read by calls, and copied out of memory where they were read before and still are there."""
    if request.param != "once":
        monkeypatch.setattr(ShardFile, "_was_read", lambda self, first, end: True)
    if request.param == "again, on disk":
        monkeypatch.setattr(Mapping, "holds", lambda self, places: False)


@pytest.fixture(autouse=True)
def one_chunk_a_span(monkeypatch):
    """Small arrays are read as large ones are."""
    monkeypatch.setattr(gather, "THREADED_BYTES", 0)
    monkeypatch.setattr(gather, "SPAN_BYTES", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})


def names(part, n_clips=N_CLIPS):
    return [f"{part}-{clip:03d}" for clip in range(n_clips)]


@pytest.fixture
def made(tmp_path):
    """Three parts of layers 17 and 18; the second one's layer 18 had to be widened."""
    feature_set = make_set(tmp_path / "store", "utterance")
    for part in range(3):
        clips = [ok_clip(name, (17, 18), 1) for name in names(part)]
        if part == 1:
            clips[300].layers[18][0, 0] = 1e5
        write_part(feature_set, clips, (17, 18))
    return feature_set


def expected_of(clip_id, layer, seed=0):
    rows = values_of(clip_id, layer, 1, seed)
    if (clip_id, layer) == ("1-300", 18):
        rows[0, 0] = 1e5
    return rows[0]


def assert_rows(values, clip_ids, layers):
    for clip_id, rows in zip(clip_ids, values, strict=True):
        for layer, row in zip(layers, rows, strict=True):
            np.testing.assert_array_equal(row, expected_of(clip_id, layer))


@pytest.mark.parametrize("layers", [(17,), (18,), (18, 17)])
@pytest.mark.parametrize("share", [1.0, 0.7, 0.2])
def test_rows_come_in_the_order_asked(made, layers, share):
    rng = np.random.default_rng(int(share * 10))
    every = [name for part in range(3) for name in names(part)]
    asked = rng.permutation(every)[: round(share * len(every))].tolist()
    asked += rng.choice(asked, 50).tolist()  # some of them twice
    values = made.read(layers, asked)
    assert values.dtype == (np.float32 if 18 in layers else np.float16)
    assert_rows(values, asked, layers)
    np.testing.assert_array_equal(made.read(layers, np.array(asked)), values)
    np.testing.assert_array_equal(made.read(layers, asked, np.float64), values)


@pytest.mark.parametrize("first", [0, 100])
def test_rows_asked_for_as_they_lie(made, first):
    asked = [name for part in (2, 0, 1) for name in names(part)[first:]]
    assert_rows(made.read([17], asked), asked, [17])
    assert_rows(made.read([18], asked, verify=False), asked, [18])


def test_of_two_parts_with_a_clip_the_later_attempt_is_read(made):
    again = names(0)[:500]
    write_part(made, [ok_clip(name, (17,), 1, seed=1) for name in again], (17,), attempt=1)
    asked = np.random.default_rng(1).permutation(names(0)).tolist()
    for clip_id, rows in zip(asked, made.read([17], asked), strict=True):
        expected = expected_of(clip_id, 17, seed=int(clip_id in again))
        np.testing.assert_array_equal(rows[0], expected)


@pytest.fixture
def readers(made):
    """Layer 17 of one part, read by us and by zarr-python."""
    record = made.records()[0]
    info = record.arrays["17"]
    folder = part_folder(made, record)
    return ShardReader(folder, "17", info), ZarrReader(folder, "17", info, record.files)


@pytest.mark.parametrize(("start", "stop"), [(0, 256), (256, 600), (512, 600), (0, 600)])
def test_a_span_is_the_same_by_either_reader(readers, start, stop):
    for reader in readers:
        values = reader.take(np.arange(600), verify=True)
        out = np.empty((stop - start, 4), np.float16)
        reader.read(out, start, verify=True)
        np.testing.assert_array_equal(out, values[start:stop])
        pieces = [(row, rows.copy()) for row, rows in reader.stream(start, stop, verify=True)]
        assert pieces[0][0] == start
        np.testing.assert_array_equal(np.concatenate([rows for _, rows in pieces]), out)


def test_spans_are_whole_chunks(readers):
    ours, of_zarr = readers
    assert ours.spans(1) == [(0, 256), (256, 512), (512, 600)]
    assert ours.spans(2 * CHUNK_BYTES) == [(0, 512), (512, 600)]
    assert of_zarr.spans(1) == [(0, 600)]


def test_a_part_that_zarr_reads_beside_ours(made, readers):
    made._reader.parts._readers[0, "17"] = readers[1]
    asked = [name for part in range(3) for name in names(part)]
    asked = np.random.default_rng(3).permutation(asked).tolist()
    assert_rows(made.read([17], asked), asked, [17])


def damage(feature_set, clip_id, layer, at):
    """Flip a bit of the part that holds a clip, at a place in a layer's shard."""
    record = next(r for r in feature_set.records() if clip_id in {w.clip_id for w in r.ledger})
    path = part_folder(feature_set, record) / str(layer) / "c" / "0" / "0"
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    return record


@pytest.mark.parametrize("shuffled", [False, True])
def test_damage_names_the_clips_of_its_chunk_alone(made, shuffled):
    record = damage(made, "2-000", 17, CHUNK_BYTES + 1000)
    asked = [name for part in range(3) for name in names(part)]
    if shuffled:
        asked = np.random.default_rng(2).permutation(asked).tolist()
    threads = threading.enumerate()
    with pytest.raises(StoreDamagedError, match="chunk 1: checksum differs") as caught:
        made.read([17], asked)
    assert f"part {record.part_id}, layer 17, clips 2-256, 2-257" in str(caught.value)
    assert "and 251 more" in str(caught.value)
    assert threading.enumerate() == threads
    others = [name for name in asked if not name.startswith("2-")]
    assert_rows(made.read([17], others), others, [17])


def test_what_was_checked_once_is_not_checked_again_and_the_rest_is(made):
    made.read([17], names(2)[:10])  # picked out of chunk 0
    damage(made, "2-000", 17, 2 * CHUNK_BYTES)
    made.read([17], names(2)[:512][::-1])
    with pytest.raises(StoreDamagedError, match="chunk 2: checksum differs"):
        made.read([17], names(2)[::-1])


def test_a_failure_of_one_thread_is_raised_and_ends_the_others(made, monkeypatch):
    calls = []

    def fail(self, *args, **kwargs):
        calls.append(self)
        raise MemoryError("no room")

    monkeypatch.setattr(ShardReader, "_read_chunks", fail)
    threads = threading.enumerate()
    asked = [name for part in range(3) for name in names(part)][::-1]
    with pytest.raises(MemoryError, match="no room"):
        made.read([17], asked)
    assert calls
    assert threading.enumerate() == threads


def test_threads_read_and_none_is_left_for_a_fork(made, monkeypatch):
    readers = set()
    read_chunks = ShardReader._read_chunks

    def noting(self, *args, **kwargs):
        readers.add(threading.get_ident())
        read_chunks(self, *args, **kwargs)

    monkeypatch.setattr(ShardReader, "_read_chunks", noting)
    threads = threading.enumerate()
    asked = [name for part in range(3) for name in names(part)][::-1]
    values = made.read([17], asked)
    assert readers
    assert threading.get_ident() not in readers
    assert threading.enumerate() == threads
    child = os.fork()
    if not child:
        os._exit(0 if np.array_equal(made.read([17], asked), values) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_clips_are_found_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "_FIND_BLOCK", 4)
    made = make_set(tmp_path / "store", "utterance")
    ids = ["片段_01", "clip", "é", "a" * 60, "a", "aa", "aaa", "𝄞", "片段_02"]
    write_part(made, dict.fromkeys(ids, 1))
    asked = [*ids[::-1], "b", "片段", "a" * 61, "", "a" * 59]
    found = Store.open(tmp_path / "store").features("audio").index.find(asked)
    assert (found[len(ids) :] == -1).all()
    assert made.index.ids(found[: len(ids)]).tolist() == ids[::-1]
    every_other = made.index.find(np.array(asked)[::2])
    np.testing.assert_array_equal(every_other, found[::2])


def test_a_file_cut_short_after_it_was_read_is_found(made):
    asked = names(0)
    made.read([17], asked)
    record = next(r for r in made.records() if r.clip_ids[0] == asked[0])
    path = part_folder(made, record) / "17" / "c" / "0" / "0"
    path.chmod(0o644)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(StoreDamagedError, match=r"expected .* bytes, got"):
        made.read([17], asked)


def test_what_is_read_again_is_copied_out_of_memory(readers, monkeypatch):
    sources = []
    read_chunks = ShardFile.read_chunks
    monkeypatch.setattr(
        ShardFile,
        "read_chunks",
        lambda self, *args: sources.append(args[0]) or read_chunks(self, *args),
    )
    reader = readers[0]
    monkeypatch.setattr(ShardFile, "_was_read", WAS_READ)
    monkeypatch.setattr(Mapping, "holds", HOLDS)
    outs = [np.empty((256, 4), np.float16) for _ in range(4)]
    for out, start in zip(outs, (0, 256, 0, 256), strict=True):
        reader.read(out, start, verify=True)
    assert [isinstance(source, Mapping) for source in sources] == [False, False, True, True]
    np.testing.assert_array_equal(outs[0], outs[2])
    np.testing.assert_array_equal(outs[1], outs[3])
