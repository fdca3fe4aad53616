"""Indexes in ``.cache`` that say something else than the records: with right checksums, and not."""

import os
import zlib
from dataclasses import replace

import numpy as np
from hostile.scene import HARMLESS, add, case

from mer_store.store import index_file
from mer_store.store.index import PartInfo
from mer_store.store.shard import ArrayInfo, crc_of


def place_of(scene, feature_set):
    return scene.path / ".cache" / f"audio-{feature_set.name}.{os.geteuid()}.index"


def tampered(change):
    """Return a case: the index as `change` leaves it, with right checksums and signatures."""

    def tamper(scene):
        feature_set = scene.feature_set()
        index = feature_set.index
        changed = change(replace(index, rows=index.rows.copy(), served=index.served.copy()))
        changed.__dict__.setdefault("by_id", index.by_id)
        index_file.save_index(changed, feature_set._signatures(), place_of(scene, feature_set))

    return tamper


def in_rows(name, value, at=None):
    def change(index):
        index.rows[name][slice(None) if at is None else at] = value
        return index

    return change


def serving(value):
    def change(index):
        index.served[:] = value
        return index

    return change


def ordered(change):
    """Keep another order of the clips than that of their ids."""

    def changing(index):
        index.__dict__["by_id"] = change(index.by_id)  # where cached properties are kept
        return index

    return changing


def serving_another_clip(index):
    index.served[:] = np.roll(index.served, 1, axis=1)
    return index


def with_part(**changes):
    return lambda index: replace(index, parts=tuple(replace(p, **changes) for p in index.parts))


def with_arrays(info):
    def change(index):
        parts = [
            PartInfo(p.part_id, p.attempt, p.layers, p.tables, dict.fromkeys(p.arrays, info))
            for p in index.parts
        ]
        return replace(index, parts=tuple(parts))

    return change


CHANGES = {
    "part_out_of_range": in_rows("part", 1000),
    "part_negative": in_rows("part", -1),
    "row_out_of_range": in_rows("row_start", 1 << 40),
    "row_negative": in_rows("row_start", -1),
    "rows_too_many": in_rows("n_rows", 1 << 50),
    "rows_negative": in_rows("n_rows", -5),
    "rows_that_overflow": in_rows("n_rows", (1 << 63) - 1),
    "clip_out_of_range": in_rows("clip_row", 1 << 30),
    "status_unknown": in_rows("status", 77),
    "status_failed": in_rows("status", 3),
    "reason_out_of_range": in_rows("reason", 1 << 30),
    "id_not_utf8": in_rows("clip_id", b"\xff\xfe", 0),
    "hash_of_another": in_rows("hash", 7),
    "serving_out_of_range": serving(1 << 30),
    "serving_negative": serving(-7),
    "serving_another_clip": serving_another_clip,
    "clips_backwards": lambda index: replace(index, first=index.first[::-1].copy()),
    "clips_out_of_range": lambda index: replace(index, first=index.first + 1000),
    "clips_too_few": lambda index: replace(index, hashes=index.hashes[:-1].copy()),
    "hashes_backwards": lambda index: replace(index, hashes=index.hashes[::-1].copy()),
    "no_reasons": lambda index: replace(index, reasons_text=np.frombuffer(b"[[[", np.uint8)),
    "reasons_numbers": lambda index: replace(index, reasons_text=np.frombuffer(b"[1]", np.uint8)),
    "names_more": lambda index: replace(index, names=(*index.names, "20")),
    "names_fewer": lambda index: replace(index, names=index.names[:-1]),
    "no_parts": lambda index: replace(index, parts=()),
    "part_leads_up": with_part(part_id="../../x"),
    "layers_huge": with_part(layers=(1 << 60,)),
    "arrays_huge": with_arrays(ArrayInfo((1 << 62, 4), "float16", 1)),
    "arrays_of_objects": with_arrays(ArrayInfo((30, 4), "O", 1)),
    "arrays_in_chunks_of_none": with_arrays(ArrayInfo((30, 4), "float16", 0)),
    "arrays_flat": with_arrays(ArrayInfo((30,), "float16", 30)),
    "no_arrays": with_part(arrays={}),
    "order_backwards": ordered(lambda order: order[::-1]),
    "order_of_one": ordered(np.zeros_like),
    "order_out_of_range": ordered(lambda order: order + 1),
    "order_negative": ordered(lambda order: order - len(order)),
    "order_short": ordered(lambda order: order[1:]),
    "order_of_fractions": ordered(lambda order: order.astype(np.float32)),
    "types_changed": lambda index: replace(index, served=index.served.astype(np.int64)),
}  # fmt: skip
for _what, _change in CHANGES.items():
    add(f"index_{_what}", HARMLESS, tampered(_change))


def rewritten(scene, change):
    """Change the bytes of a sound index."""
    feature_set = scene.feature_set()
    feature_set.refresh()
    place = place_of(scene, feature_set)
    data = change(place.read_bytes())
    place.unlink()
    place.write_bytes(data)


def with_header(change):
    """Change the text of the header, with right length and checksum."""

    def tamper(data):
        start = len(b"mer-store index 2\n") + 16
        n_header = int.from_bytes(data[start - 16 : start - 8], "little")
        header = change(data[start : start + n_header])
        lengths = len(header).to_bytes(8, "little") + crc_of(header).to_bytes(8, "little")
        return data[: start - 16] + lengths + header + data[start + n_header :]

    return tamper


BYTES = {
    "checksum_wrong": lambda data: data[:-70] + bytes([data[-70] ^ 1]) + data[-69:],
    "header_length_huge": lambda data: data[:18] + b"\xff" * 8 + data[26:],
    "header_deep": with_header(lambda text: b"[" * 100_000),
    "header_of_objects": with_header(lambda text: text.replace(b'"<u8"', b'"|O"')),
    "header_shape_huge": with_header(lambda text: text.replace(b'"<u8",[8', b'"<u8",[4611686018427387912')),
    "header_places_negative": with_header(lambda text: text.replace(b',0,', b',-9,')),
    "noise": zlib.compress,
    "empty": lambda data: b"",
}  # fmt: skip
for _what, _bytes in BYTES.items():
    add(f"index_{_what}", HARMLESS, lambda scene, change=_bytes: rewritten(scene, change))


@case(HARMLESS)
def index_that_came_with_the_store(scene):
    """Sound in itself, but with clips' rows exchanged: only the times of the records tell."""
    feature_set = scene.feature_set()
    index = feature_set.index
    rows = index.rows.copy()
    same = np.flatnonzero((rows["n_rows"] == 5) & (rows["status"] == 1))
    rows["row_start"][same] = np.roll(rows["row_start"][same], 1)
    signatures = {
        part: (size, mtime, ctime - 10**9)
        for part, (size, mtime, ctime) in feature_set._signatures().items()
    }
    index_file.save_index(replace(index, rows=rows), signatures, place_of(scene, feature_set))


@case(HARMLESS)
def index_is_a_pipe(scene):
    place = place_of(scene, scene.feature_set())
    place.parent.mkdir()
    os.mkfifo(place)


@case(HARMLESS)
def index_is_a_link(scene):
    feature_set = scene.feature_set()
    feature_set.refresh()
    place = place_of(scene, feature_set)
    place.symlink_to(scene.outside(f"index-{scene.path.name}", place))
