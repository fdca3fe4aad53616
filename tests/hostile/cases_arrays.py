"""Arrays that claim what is not there, unpack to more than they should, or hold other bytes."""

import random
import shutil

import numpy as np
from hostile.scene import IDS, N_ROWS, READ, VERIFY, add, case

from mer_store.store.clip_checks import CLIP_CHECKS
from mer_store.store.record import ArrayInfo

N_ALL = len(IDS) * N_ROWS
ARRAYS = {
    "dtype_object": {"dtype": "object"},
    "dtype_pickled": {"dtype": "|O"},
    "dtype_text": {"dtype": "<U8"},
    "dtype_string": {"dtype": "string"},
    "dtype_void": {"dtype": "V8"},
    "dtype_date": {"dtype": "datetime64[ns]"},
    "dtype_complex": {"dtype": "complex64"},
    "dtype_list": {"dtype": [["a", "O"]]},
    "dtype_of_another_size": {"dtype": "float32"},
    "dtype_of_no_feature": {"dtype": "int16"},
    "shape_2_to_the_62": {"shape": [1 << 62, 4]},
    "shape_that_overflows": {"shape": [1 << 39, 1 << 39]},
    "shape_wide": {"shape": [N_ALL, 1 << 39]},
    "shape_negative": {"shape": [-1, 4]},
    "shape_true": {"shape": [True, 4]},
    "shape_float": {"shape": [30.0, 4]},
    "shape_of_three": {"shape": [N_ALL, 2, 2]},
    "shape_of_none": {"shape": []},
    "shape_text": {"shape": "30"},
    "shape_of_fewer_rows": {"shape": [N_ALL - 1, 4]},
    "chunks_of_no_rows": {"chunk_rows": 0},
    "chunks_negative": {"chunk_rows": -1},
    "chunks_huge": {"chunk_rows": 1 << 39},
    "chunks_float": {"chunk_rows": 30.0},
    "chunks_by_the_row": {"chunk_rows": 1},
    "a_value_more": {"surprise": 1},
}
for _what, _values in ARRAYS.items():
    add(f"array_{_what}", READ, lambda scene, values=_values: scene.say("arrays", "18", **values))
TABLES = {
    "offsets_float": ("offsets", {"dtype": "float64"}),
    "offsets_short": ("offsets", {"shape": [3]}),
    "offsets_huge": ("offsets", {"shape": [1 << 39]}),
    "table_offsets_of_two_axes": ("images/offsets", {"shape": [7, 1]}),
    "table_offsets_narrow": ("images/offsets", {"dtype": "int32"}),
    "columns_of_different_length": ("images/box", {"shape": [17, 4]}),
    "checks_of_another_shape": (CLIP_CHECKS, {"shape": [6, 1]}),
    "checks_of_another_type": (CLIP_CHECKS, {"dtype": "float32"}),
}
for _what, (_name, _values) in TABLES.items():
    add(_what, READ, lambda scene, n=_name, values=_values: scene.say("arrays", n, **values))


def drop(scene, kind, name):
    del scene.values[kind][name]
    scene.say()


for _name in ("18", "offsets", "images/offsets"):
    add(f"array_{_name}_not_named", READ, lambda scene, n=_name: drop(scene, "arrays", n))
add("shard_not_named", READ, lambda scene: drop(scene, "files", "18/c/0/0"))
add("digest_wrong", READ, lambda scene: scene.say("files", "18/c/0/0", sha256="0" * 64))
add("digest_no_digest", READ, lambda scene: scene.say("files", "18/c/0/0", sha256="../x"))
add("size_wrong", READ, lambda scene: scene.say("files", "18/c/0/0", size=1))
add("size_negative", READ, lambda scene: scene.say("files", "18/c/0/0", size=-1))


@case(READ)
def rows_that_are_not_there(scene):
    """A record that agrees with itself: 2 TB of rows in a file of 300 bytes."""
    n_rows = 1 << 33
    for row in scene.values["ledger"][:1]:
        row["n_rows"] = n_rows
    for name in ("18", "19"):
        info = scene.values["arrays"][name]
        info |= {"shape": [n_rows + N_ALL - N_ROWS, 4], "chunk_rows": 1 << 20}
        size = ArrayInfo(tuple(info["shape"]), "float16", 1 << 20).shard_bytes
        scene.values["files"][f"{name}/c/0/0"]["size"] = size
    scene.say()


def flip(scene, seed):
    data = bytearray(scene.shard().read_bytes())
    chosen = random.Random(seed)
    data[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
    scene.shard().write_bytes(data)


for _seed in range(6):
    add(f"shard_with_bit_{_seed}_flipped", READ, lambda scene, seed=_seed: flip(scene, seed))


@case(READ)
def shards_swapped(scene):
    """Of two layers of one shape; the checksums inside are right."""
    one, two = scene.shard("18").read_bytes(), scene.shard("19").read_bytes()
    scene.shard("18").write_bytes(two[: len(two) // 2] + one[len(one) // 2 :])


@case(READ, keeps_values=False)
def layers_swapped(scene):
    """The chunks' checksums are right; the clips', and the digests in the record, tell."""
    one, two = scene.shard("18").read_bytes(), scene.shard("19").read_bytes()
    scene.shard("18").write_bytes(two)
    scene.shard("19").write_bytes(one)


add("shard_missing", READ, lambda scene: scene.shard().unlink())
add("shard_emptied", READ, lambda scene: scene.shard().write_bytes(b""))
add("shard_cut", READ, lambda scene: scene.shard().write_bytes(scene.shard().read_bytes()[:-9]))
add("part_missing", READ, lambda scene: shutil.rmtree(scene.part))


def poison(value):
    def tamper(scene):
        values = np.ones((N_ALL, 4), np.float16)
        values[7, 2] = value
        scene.replace_values("18", values)

    return tamper


add("values_not_a_number", READ, poison(np.nan), keeps_values=False)
add("values_infinite", READ, poison(-np.inf), keeps_values=False)
ENDS = np.arange(7) * 3
OFFSETS = {
    "descending": [0, 3, 9, 6, 12, 15, 18],
    "not_from_0": [1, *ENDS[1:]],
    "negative": [0, -3, *ENDS[2:]],
    "that_overflow": [0, (1 << 63) - 1, -2, *ENDS[3:]],
    "beyond_the_rows": [*ENDS[:-1], 1 << 40],
    "short_of_the_rows": [*ENDS[:-1], 16],
}
for _what, _offsets in OFFSETS.items():
    add(
        f"table_offsets_{_what}",
        READ,
        lambda scene, o=_offsets: scene.replace_values("images/offsets", np.array(o, np.int64)),
    )
    add(
        f"offsets_{_what}",
        VERIFY,
        lambda scene, o=_offsets: scene.replace_values("offsets", np.array(o, np.int64)),
    )


@case(READ)
def checks_that_are_wrong(scene):
    """Clips fetched alone would be refused, or worse, accepted."""
    scene.replace_values(CLIP_CHECKS, np.zeros((6, 2), np.uint32))
