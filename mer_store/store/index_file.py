"""The index on disk: checksummed columns mapped into memory, rebuilt whenever they do not fit."""

import json
import math
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_store.errors import StoreDamagedError
from mer_store.store.commit import writer_name
from mer_store.store.index import Index, PartInfo
from mer_store.store.index_check import is_usable
from mer_store.store.layout import FILE_MODE, check_folder, make_folder
from mer_store.store.plain_file import open_plain
from mer_store.store.record_rules import count_of
from mer_store.store.shard import crc_of
from mer_store.strict_json import parse

_MAGIC = b"mer-store index 2\n"
_ALIGN = 64
_COLUMNS = ("rows", "hashes", "first", "attempt", "status", "served", "by_id", "reasons_text")


Signatures = dict[str, tuple[int, int, int]]
"""Part id -> size, modification and change time of its commit record: what an index was made from.

The change time is the system's own: a store that was copied or unpacked here has others, so that an index
that came with it, and may say anything, is not used.
"""


def save_index(index: Index, signatures: Signatures, path: Path) -> None:
    """Write the index beside `path` and move it there. Failure is no error: the file only saves time."""
    temporary = path.with_name(f".{writer_name()}")
    try:
        check_folder(path.parent)
        make_folder(path.parent)
        try:
            with temporary.open("xb") as file:
                file.writelines(_pieces(index, signatures))
            temporary.chmod(FILE_MODE)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, StoreDamagedError):
        return


def _pieces(index: Index, signatures: Signatures) -> list[Any]:
    """Return magic, length and checksum of the header, the header, then the columns on aligned places."""
    columns = {name: np.ascontiguousarray(getattr(index, name)) for name in _COLUMNS}
    described, pieces, place = [], [], 0
    for name, column in columns.items():
        data = column.reshape(-1).view(np.uint8)
        described.append([name, _dtype_values(column.dtype), column.shape, place, crc_of(data)])
        padding = bytes(-column.nbytes % _ALIGN)
        pieces += [data.data, padding]
        place += column.nbytes + len(padding)
    values = {
        "signatures": signatures,
        "parts": [part.to_values() for part in index.parts],
        "names": index.names,
        "columns": described,
    }
    header = json.dumps(values, separators=(",", ":")).encode()
    header += b" " * (-(len(_MAGIC) + 16 + len(header)) % _ALIGN)
    lengths = len(header).to_bytes(8, "little") + crc_of(header).to_bytes(8, "little")
    return [_MAGIC, lengths, header, *pieces]


def load_index(path: Path) -> tuple[Index, Signatures] | None:
    """Map the index into memory; None where it is missing, damaged, of another version or another user's."""
    try:
        with os.fdopen(open_plain(path), "rb") as file:
            if os.fstat(file.fileno()).st_uid != os.geteuid():
                return None
            data = np.frombuffer(
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8
            )
        return _parse(data)
    except (
        OSError,
        StoreDamagedError,
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
    ):
        return None


def _parse(data: NDArray[np.uint8]) -> tuple[Index, Signatures] | None:
    start = len(_MAGIC) + 16
    head = data[:start].tobytes()
    n_header = int.from_bytes(head[-16:-8], "little")
    header = data[start : start + n_header].tobytes()
    if head[: len(_MAGIC)] != _MAGIC or crc_of(header) != int.from_bytes(head[-8:], "little"):
        return None
    values = parse(header)
    body = data[start + n_header :]
    columns: dict[str, Any] = {}
    for name, dtype_values, shape, place, crc in values["columns"]:
        dtype = (
            np.dtype([tuple(field) for field in dtype_values])
            if isinstance(dtype_values, list)
            else np.dtype(dtype_values)
        )
        n_bytes = math.prod(shape) * dtype.itemsize
        column = body[count_of(place) : place + count_of(n_bytes)]
        if len(column) != n_bytes or crc_of(column) != crc:
            return None
        columns[name] = column.view(dtype).reshape(shape)
    parts = tuple(PartInfo.from_values(part) for part in values["parts"])
    signatures = {
        part_id: (size, mtime_ns, ctime_ns)
        for part_id, (size, mtime_ns, ctime_ns) in values["signatures"].items()
    }
    columns["saved_order"] = columns.pop("by_id")
    index = Index(parts=parts, names=tuple(values["names"]), **columns)
    return (index, signatures) if is_usable(index) else None


def _dtype_values(dtype: np.dtype[Any]) -> Any:
    return dtype.descr if dtype.names else dtype.str
