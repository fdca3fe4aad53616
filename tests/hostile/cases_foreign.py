"""Arrays as another program might have written them: codecs, chunk grids, decompression bombs."""

import gzip
import struct
import zlib
from functools import cache

import numpy as np
from hostile.cases_arrays import N_ALL
from hostile.scene import READ, add, case
from numcodecs import GZip, Zstd

SHAPE = [N_ALL, 4]
RAW = bytes(N_ALL * 4 * 2)
BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
CRC = {"name": "crc32c"}


def packed_by(name, **configuration):
    return [BYTES, {"name": name, "configuration": configuration}]


GZIP, ZSTD = packed_by("gzip", level=5), packed_by("zstd", level=0, checksum=False)
BLOSC = packed_by("blosc", cname="lz4", clevel=5, shuffle="shuffle", typesize=2, blocksize=0)


def zstd_bomb(n_blocks=32 << 10):
    """A frame that states its size truly: runs of 128 KiB, 4 bytes each."""
    n_bytes = n_blocks << 17
    head = b"\x28\xb5\x2f\xfd" + bytes([0xC0, 0x50]) + struct.pack("<Q", n_bytes)
    blocks = [
        ((1 << 17) << 3 | 1 << 1 | (n == n_blocks - 1)).to_bytes(3, "little") + b"\0"
        for n in range(n_blocks)
    ]
    return head + b"".join(blocks)


def zstd_of_unknown_size(data):
    packed = Zstd().encode(data)
    blocks = packed[4 + 1 + 1 :] if packed[4] >> 5 & 1 else packed[6:]
    return packed[:4] + bytes([0, 0x58]) + blocks


def gzip_bomb():
    """Members of 16 MiB of zeros each, 2 GiB together."""
    return gzip.compress(bytes(1 << 24), 1) * 128


@cache
def deep_gzip_bomb(n_bytes=1 << 27):
    """One member."""
    packer = zlib.compressobj(1, wbits=31)
    block = bytes(1 << 24)
    return b"".join(packer.compress(block) for _ in range(n_bytes >> 24)) + packer.flush()


def blosc_bomb():
    return bytes([2, 1, 0x21, 2]) + struct.pack("<III", (1 << 31) - 100, 1 << 18, 116) + bytes(100)


def shard_of(*pieces):
    """A shard of inner chunks, its index at the end."""
    starts = np.cumsum([0, *map(len, pieces)])
    index = np.array([[s, len(p)] for s, p in zip(starts, pieces, strict=False)], "<u8").tobytes()
    return b"".join(pieces) + index + struct.pack("<I", zarr_crc(index))


def zarr_crc(data):
    from crc32c import crc32c

    return crc32c(data)


def sharding(inner, inner_shape=SHAPE, location="end", index=(BYTES, CRC)):
    return [{
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": inner_shape, "codecs": inner, "index_codecs": list(index),
            "index_location": location,
        },
    }]  # fmt: skip


def packed(name, codecs, chunk, refused_by=READ):
    add(f"chunk_{name}", refused_by, lambda scene: scene.foreign({"c/0/0": chunk()}, codecs=codecs))


packed("of_gzip_bombs", GZIP, gzip_bomb)
packed("of_one_gzip_bomb", GZIP, deep_gzip_bomb)
packed("of_a_zstd_bomb", ZSTD, zstd_bomb)
packed("of_a_blosc_bomb", BLOSC, blosc_bomb)
packed("of_a_bomb_in_a_shard", sharding(GZIP), lambda: shard_of(deep_gzip_bomb()))
packed("of_zstd_of_unknown_size", ZSTD, lambda: zstd_of_unknown_size(RAW))
packed("of_two_zstd_frames", ZSTD, lambda: bytes(Zstd().encode(RAW)) + zstd_bomb())
packed("of_zstd_cut_short", ZSTD, lambda: bytes(Zstd().encode(RAW))[:-3])
packed("of_gzip_cut_short", GZIP, lambda: bytes(GZip().encode(RAW))[:-12])
packed("of_no_gzip", GZIP, lambda: RAW)
packed("of_no_blosc", BLOSC, lambda: RAW)
packed("too_short", [BYTES], lambda: RAW[:-2])
packed("too_long", [BYTES], lambda: RAW + b"xx")
packed("empty", [BYTES], lambda: b"")
packed("with_a_wrong_checksum", [BYTES, CRC], lambda: RAW + b"abcd")
packed("packed_twice", [*GZIP, GZIP[1]], lambda: bytes(GZip().encode(deep_gzip_bomb(1 << 24))))
packed("in_shards_in_shards", sharding(sharding([BYTES])), lambda: shard_of(shard_of(RAW)))
packed(
    "outside_its_shard", sharding([BYTES]), lambda: bytes(8) + struct.pack("<QQI", 1 << 60, 240, 0)
)
packed(
    "missing_from_its_shard",
    sharding([BYTES]),
    lambda: shard_of(RAW)[:-20] + b"\xff" * 16 + bytes(4),
)
packed("in_a_shard_without_index", sharding([BYTES]), lambda: b"x")
packed(
    "with_an_index_that_is_packed", sharding([BYTES], index=(BYTES, GZIP[1])), lambda: shard_of(RAW)
)

METADATA = {
    "pickle": {"codecs": [BYTES, {"name": "numcodecs.pickle", "configuration": {}}]},
    "pickle_in_shards": {"codecs": sharding([BYTES, {"name": "numcodecs.pickle"}])},
    "codec_by_a_url": {"codecs": [{"name": "https://example.org/codec"}]},
    "codec_number": {"codecs": [7]},
    "codecs_text": {"codecs": "bytes"},
    "codecs_none": {"codecs": []},
    "storage_transformers": {"storage_transformers": [{"name": "x", "configuration": {}}]},
    "an_extension": {"surprise": {"must_understand": True}},
    "dtype_string": {"data_type": "string"},
    "dtype_object": {"data_type": {"name": "numpy.object", "configuration": {}}},
    "dtype_date": {
        "data_type": {"name": "numpy.datetime64", "configuration": {"unit": "s", "scale_factor": 1}}
    },
    "dtype_of_bytes": {"data_type": "r16"},
    "zarr_format_2": {"zarr_format": 2},
    "a_group": {"node_type": "group"},
    "no_node": {"node_type": None},
    "another_shape": {"shape": [N_ALL * 2, 4]},
    "a_huge_shape": {"shape": [1 << 62, 4]},
    "a_grid_unknown": {
        "chunk_grid": {"name": "rectangular", "configuration": {"chunk_shape": SHAPE}}
    },
    "a_grid_text": {"chunk_grid": "regular"},
    "keys_of_another_kind": {
        "chunk_key_encoding": {"name": "v2", "configuration": {"separator": "."}}
    },
    "keys_that_lead_up": {
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/../"}}
    },
}
for _shape in ([0, 4], [-1, 4], [N_ALL], [1 << 40, 1 << 40], [True, 4], [30.0, 4], "30"):
    METADATA[f"chunks_of_{_shape}"] = {
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": _shape}}
    }
for _what, _changes in METADATA.items():
    add(f"metadata_{_what}", READ, lambda scene, c=_changes: scene.foreign({"c/0/0": RAW}, **c))


@case(READ)
def metadata_that_is_no_json(scene):
    scene.foreign({"c/0/0": RAW})
    (scene.part / "18" / "zarr.json").write_bytes(b"[" * 100_000)
    scene.settle()


@case(READ)
def chunks_that_nobody_names(scene):
    """zarr reads a chunk that is not there as zeros."""
    scene.foreign({})


@case(READ)
def chunk_gone(scene):
    scene.foreign({"c/0/0": RAW})
    (scene.part / "18" / "c" / "0" / "0").unlink()


@case(READ)
def chunk_is_a_link(scene):
    scene.foreign({"c/0/0": RAW})
    chunk = scene.part / "18" / "c" / "0" / "0"
    chunk.symlink_to(scene.outside(f"chunk-{scene.path.name}", chunk))


@case(READ)
def chunk_more_than_named(scene):
    scene.foreign({"c/0/0": RAW})
    (scene.part / "18" / "c" / "0" / "1").write_bytes(RAW)


@case(READ)
def array_of_zeros_that_nobody_stored(scene):
    """A terabyte of fill values in no file at all."""
    for row in scene.values["ledger"][:1]:
        row["n_rows"] = (1 << 36) - N_ALL + 5
    scene.values["arrays"]["19"] |= {"shape": [1 << 36, 4], "chunk_rows": None}
    scene.foreign({}, shape=[1 << 36, 4])
