"""One clip of a MERTools folder: a ``.npy`` file, or a folder of them, to rows of one layer."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.exchange.npy import (
    MAX_BYTES,
    Head,
    NotFeaturesError,
    parse_array,
    read_bytes,
    read_head,
)

SUFFIX = ".npy"


@dataclass(frozen=True, slots=True)
class ClipFiles:
    """Where a clip's features are."""

    paths: tuple[Path, ...]
    """One file, or those of the clip's folder, sorted."""
    in_folder: bool
    n_bytes: int
    """Of all of them."""
    mtime_ns: int
    """Of the latest."""

    def read(self) -> tuple[str, list[bytes]]:
        """Read the files, and return a digest of them: ``sha256:…`` of the one, or of all with their names.

        Raises
        ------
        NotFeaturesError
            One is no plain file, or too large.
        OSError
            One cannot be read.
        """
        if self.n_bytes > MAX_BYTES:
            raise NotFeaturesError(f"{self.n_bytes} bytes: expected at most {MAX_BYTES}")
        datas = [read_bytes(path) for path in self.paths]
        if not self.in_folder:
            return f"sha256:{hashlib.sha256(datas[0]).hexdigest()}", datas
        digest = hashlib.sha256()
        for path, data in zip(self.paths, datas, strict=True):
            digest.update(
                f"{path.name} {hashlib.sha256(data).hexdigest()}\n".encode(errors="replace")
            )
        return f"sha256:{digest.hexdigest()}", datas


@dataclass(frozen=True, slots=True)
class ClipValues:
    """What a clip's files hold."""

    rows: NDArray[Any] | None
    """[T, D] of 4 bytes a value at most; None for a clip without features."""
    reason: str = ""
    """Why there are none."""
    rounded: bool = False
    """The stored type does not hold every value exactly."""
    pooled: bool = False
    """Several rows became their mean, as MERTools' reader makes it."""


def list_clips(folder: Path) -> dict[str, ClipFiles]:
    """Find the clips of a folder: ``<clip>.npy``, else a folder ``<clip>/`` of ``.npy`` files."""
    found: dict[str, ClipFiles] = {}
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name.endswith(SUFFIX)):
            if entry.name.startswith("."):
                continue
            if entry.name.endswith(SUFFIX):  # sorted last: a file goes before a folder
                found[entry.name.removesuffix(SUFFIX)] = _files([entry], in_folder=False)
            elif entry.is_dir():
                with os.scandir(entry.path) as inner:
                    files = [file for file in inner if file.name.endswith(SUFFIX)]
                found[entry.name] = _files(files, in_folder=True)
    return found


def _files(entries: list[os.DirEntry[str]], *, in_folder: bool) -> ClipFiles:
    facts = []
    for entry in entries:
        try:
            facts.append(entry.stat())
        except OSError:  # a link to nowhere: reading it will say so
            continue
    return ClipFiles(
        tuple(Path(entry.path) for entry in sorted(entries, key=lambda entry: entry.name)),
        in_folder,
        sum(fact.st_size for fact in facts),
        max((fact.st_mtime_ns for fact in facts), default=0),
    )


def values_of(datas: list[bytes], level: str, stored_dtype: str) -> ClipValues:
    """Turn the bytes of a clip's files into rows.

    Raises
    ------
    NotFeaturesError
        A file holds no features, or they do not fit each other.
    """
    blocks = [block for data in datas if (block := _rows(parse_array(data))).size]
    if not blocks:
        return ClipValues(None, "no values: an empty array stands for no face or no speech")
    if len({block.shape[1] for block in blocks}) > 1:
        widths = sorted({block.shape[1] for block in blocks})
        raise NotFeaturesError(f"files of different widths {widths}")
    rows = np.concatenate(blocks)
    if not rows.any():
        return ClipValues(None, "all zeros: they stand for no face or no speech")
    pooled = level == "utterance" and len(rows) > 1
    if pooled:
        rows = rows.mean(axis=0, keepdims=True, dtype=np.float64)
    stored, rounded = _narrowed(rows, np.dtype(stored_dtype))
    return ClipValues(stored, rounded=rounded and not pooled, pooled=pooled)


def needs_float32(files: ClipFiles) -> bool:
    """Tell whether a clip's values may need float32: any file of more than 2 bytes a value but zeros."""
    for path in files.paths:
        head = _head(path)
        if head is None or head.dtype.itemsize == 2 or 0 in head.shape:
            continue
        if head.dtype.itemsize == 4 or not _is_zeros(path):
            return True
    return False


def usual_width(clips: Iterable[ClipFiles]) -> int | None:
    """Return the D that most of some clips' files have, None where none has any."""
    heads = (_head(path) for files in clips for path in files.paths[:1])
    widths = Counter(head.shape[-1] for head in heads if head and head.shape and head.shape[-1])
    return widths.most_common(1)[0][0] if widths else None


def _rows(array: NDArray[Any]) -> NDArray[Any]:
    """Return [T, D]."""
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 0 or array.ndim > 2:
        raise NotFeaturesError(f"expected the shape (D,) or (T, D), got {array.shape}")
    return np.atleast_2d(array)


def _narrowed(rows: NDArray[Any], stored_dtype: np.dtype[Any]) -> tuple[NDArray[Any], bool]:
    """Return rows of 4 bytes a value at most, and whether the stored type rounds any of them."""
    with np.errstate(over="ignore"):
        narrow = rows.astype(stored_dtype)
        single = rows.astype(np.float32) if rows.dtype.itemsize > 4 else rows
    # What overflows float16 is stored as float32.
    kept = np.where(np.isinf(narrow), single, narrow)
    return single, bool((kept != rows).any())


def _head(path: Path) -> Head | None:
    try:
        return read_head(path)
    except (NotFeaturesError, OSError):
        return None


def _is_zeros(path: Path) -> bool:
    try:
        return not parse_array(read_bytes(path)).any()
    except (NotFeaturesError, OSError):
        return True  # it will not be stored
