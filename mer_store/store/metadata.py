"""The texts of ``zarr.json``, written so that any Zarr reader opens a part without us."""

import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from mer_store.errors import UsageError
from mer_store.store.layout import MAX_RECORD_BYTES
from mer_store.store.shard import DTYPES, ArrayInfo
from mer_store.strict_json import compact_json

Json = dict[str, Any]

_CHECKED_INDEX = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
#: Codecs that may be met in a part that another program wrote. None of them runs code.
COMPRESSORS = frozenset({"blosc", "gzip", "zstd"})
CODECS = COMPRESSORS | {"bytes", "crc32c", "sharding_indexed", "transpose"}
_FIELDS = frozenset(
    {"zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value",
     "codecs", "attributes", "storage_transformers", "dimension_names"}
)  # fmt: skip


def array_metadata(info: ArrayInfo) -> Json:
    """Describe an array that is one shard of `ArrayInfo.chunk_rows`-row chunks, raw and checksummed."""
    chunk_rows = info.chunk_rows or 1
    n_shard_rows = max(info.n_chunks, 1) * chunk_rows
    dtype = np.dtype(info.dtype)
    to_bytes: Json = {"name": "bytes"}
    if dtype.itemsize > 1:
        to_bytes["configuration"] = {"endian": "little"}
    fill: Any = False if dtype.kind == "b" else 0.0 if dtype.kind == "f" else 0
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(info.shape),
        "data_type": info.dtype,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [n_shard_rows, *info.shape[1:]]},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill,
        "codecs": [
            {
                "name": "sharding_indexed",
                "configuration": {
                    "chunk_shape": [chunk_rows, *info.shape[1:]],
                    "codecs": [to_bytes, {"name": "crc32c"}],
                    "index_codecs": _CHECKED_INDEX,
                    "index_location": "end",
                },
            }
        ],
        "attributes": {},
        "storage_transformers": [],
    }


def group_metadata() -> Json:
    """Describe a group of a side table's columns."""
    return {"zarr_format": 3, "node_type": "group", "attributes": {}}


def member_metadata(arrays: Mapping[str, ArrayInfo]) -> dict[str, Json]:
    """Return path -> metadata of every member of a part: its arrays and the groups that hold them."""
    groups = {name.rpartition("/")[0] for name in arrays} - {""}
    members = {name: group_metadata() for name in groups}
    members |= {name: array_metadata(info) for name, info in arrays.items()}
    return dict(sorted(members.items()))


def part_metadata(members: Mapping[str, Json], attributes: Json) -> Json:
    """Describe a part: `attributes` and, so that one read shows them all, its members."""
    return {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": attributes,
        "consolidated_metadata": {
            "kind": "inline",
            "must_understand": False,
            "metadata": {name: _nested(member) for name, member in members.items()},
        },
    }


def _nested(member: Json) -> Json:
    if member["node_type"] == "array":
        return member
    none = {"kind": "inline", "must_understand": False, "metadata": {}}
    return {**member, "consolidated_metadata": none}


def to_text(metadata: Json) -> bytes:
    """Return the bytes of a ``zarr.json``.

    Raises
    ------
    UsageError
        They are more than a reader accepts.
    """
    text = compact_json(metadata)
    if len(text) > MAX_RECORD_BYTES:
        raise UsageError(
            f"a part's record of {len(text)} bytes, more than {MAX_RECORD_BYTES}: "
            "store fewer clips a part"
        )
    return text


def unknown_pieces(metadata: Any) -> list[str]:
    """Name what an array's metadata asks for and is not on our list: data types, codecs, extensions."""
    if not isinstance(metadata, dict) or metadata.get("zarr_format") != 3:
        return ["a zarr_format other than 3"]
    unknown = (
        []
        if metadata.get("data_type") in DTYPES
        else [f"data type {reprlib.repr(metadata.get('data_type'))}"]
    )
    unknown += [
        f"codec {reprlib.repr(name)}"
        for name in _codec_names(metadata.get("codecs"))
        if name not in CODECS
    ]
    if metadata.get("storage_transformers"):
        unknown.append("storage transformers")
    unknown += [f"field {reprlib.repr(name)}" for name in sorted(metadata.keys() - _FIELDS)]
    if metadata.get("node_type") != "array":
        unknown.append("a node that is no array")
    return unknown


def _codec_names(codecs: Any) -> list[str]:
    names: list[str] = []
    for codec in codecs if isinstance(codecs, list) else [None]:
        if not isinstance(codec, dict):
            names.append(repr(codec))
            continue
        names.append(str(codec.get("name")))
        inner = codec.get("configuration")
        if isinstance(inner, dict):
            for key in ("codecs", "index_codecs"):
                names += _codec_names(inner.get(key, []))
    return names
