"""One feature set written into an HDF5 file, block by block.

The file::

    /                              attribute mer_store_format
    /<modality>/<name>/            attributes spec and layers (JSON)
        clip_ids      [clips]      text of fixed length, UTF-8
        status        [clips]      ok, empty or failed
        reason        [clips]      place in `reasons`, -1 for none
        reasons       [n]          text
        digest        [clips]      identity of the clip's media; empty where it is not known
        n_bytes, mtime_ns [clips]  of the media, -1 where not known
        offsets       [clips + 1]  clip c owns the rows offsets[c]:offsets[c + 1]
        layer_status  [clips, layers]  0 not extracted, 1 ok, 2 empty, 3 failed
        layers/<layer>  [rows, D]  NaN where a clip has other layers but not this one
        tables/<table>/<column>    side tables, with offsets [clips + 1] and has [clips]
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mer_store.errors import UsageError
from mer_store.store.ledger import Status
from mer_store.store.part_files import OFFSETS
from pipelines.exchange.chosen import Chosen, blocks, layer_type

FORMAT_ATTRIBUTE, FORMAT = "mer_store_format", 1
HAS = "has"
#: 1.10 and later read it: since then the file's own structures have checksums, too.
LIBVER = ("v110", "v110")
_CHUNK_BYTES = 2**18
_TABLE_CLIPS = 1024


def write_set(file: h5py.File, chosen: Chosen, advance: Callable[[int], object]) -> None:
    """Write a feature set's clips and layers; `advance` is told of rows written.

    Raises
    ------
    UsageError
        Parts differ in a layer's width or a table's columns: one dataset cannot hold them.
    StoreDamagedError
        Bytes are missing or wrong, or a clip's layers differ in length.
    """
    spec, ledger = chosen.feature_set.spec, chosen.ledger
    group = file.create_group(f"{spec.modality}/{spec.name}")
    _put_text(group, "spec", spec.to_json())
    _put_text(group, "layers", json.dumps([str(layer) for layer in chosen.layers]))
    lengths = chosen.lengths()
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    _put(group, "clip_ids", _texts(ledger.clip_ids))
    statuses = [Status(status).name.lower() for status in chosen.status().tolist()]
    _put(group, "status", _texts(statuses))
    _put_reasons(group, chosen.reasons())
    _put(group, "digest", _texts([digest or "" for digest in ledger.digest.tolist()]))
    _put(group, "n_bytes", ledger.n_bytes)
    _put(group, "mtime_ns", ledger.mtime_ns)
    _put(group, OFFSETS, offsets)
    _put(group, "layer_status", ledger.of_layers(chosen.layers))
    _write_layers(group.create_group("layers"), chosen, offsets, advance)
    _write_tables(group.create_group("tables"), chosen)


def _write_layers(
    group: h5py.Group, chosen: Chosen, offsets: NDArray[np.int64], advance: Callable[[int], object]
) -> None:
    feature_set, ids = chosen.feature_set, chosen.ledger.clip_ids
    there = chosen.ledger.has(chosen.layers)
    for column, layer in enumerate(chosen.layers):
        dtype, width = layer_type(feature_set, layer)
        shape = (int(offsets[-1]), width)
        dataset = _create(group, str(layer), shape, dtype, fillvalue=np.nan)
        for clips in blocks(offsets, there[:, column], dtype.itemsize * width):
            if feature_set.spec.level == "utterance":
                rows = feature_set.read([layer], ids[clips], dtype)[:, 0]
            else:
                runs = feature_set.ragged([layer], ids[clips], dtype)
                rows = np.concatenate(runs)[:, 0]
            if len(rows):
                dataset[offsets[clips.start] : offsets[clips.stop]] = rows
            advance(len(rows))


def _write_tables(group: h5py.Group, chosen: Chosen) -> None:
    feature_set, ids = chosen.feature_set, chosen.ledger.clip_ids
    names = sorted({table for part in feature_set.index.parts for table in part.tables})
    number = feature_set.index.find(ids)
    ok = chosen.status() == Status.OK
    for name in names:
        has = ok & (feature_set.index.column(f"{name}/")[number] >= 0)
        if not has.any():
            continue
        table = group.create_group(name)
        datasets = {
            column: _create(table, column, (0, *shape), dtype, maxshape=(None, *shape))
            for column, (dtype, shape) in _columns(chosen, name).items()
        }
        counts = np.zeros(len(ids), np.int64)
        for clips in blocks(np.arange(len(ids) + 1), has, 1, _TABLE_CLIPS):
            read = feature_set.table(name, ids[clips])
            for column, dataset in datasets.items():
                values = [rows[column] for rows in read]
                counts[clips] = [len(rows) for rows in values]
                start = len(dataset)
                dataset.resize(start + int(counts[clips].sum()), axis=0)
                if len(dataset) > start:
                    dataset[start:] = np.concatenate(values)
        _put(table, OFFSETS, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))
        _put(table, HAS, has.astype(np.uint8))


def _columns(chosen: Chosen, table: str) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Return type and shape of a row of each column: the same in all parts."""
    prefix = f"{table}/"
    found = {
        tuple(
            (name.removeprefix(prefix), info.dtype, info.shape[1:])
            for name, info in sorted(part.arrays.items())
            if name.startswith(prefix) and name != prefix + OFFSETS
        )
        for part in chosen.feature_set.index.parts
        if table in part.tables
    }
    if len(found) > 1 or any(name == HAS for columns in found for name, _, _ in columns):
        raise UsageError(
            f"{chosen.feature_set.name}: table {table} has other columns in some parts than in others; "
            f"one file cannot hold them: export fewer clips by --clips"
        )
    [columns] = found
    return {name: (np.dtype(dtype), shape) for name, dtype, shape in columns}


def _put_text(group: h5py.Group, name: str, text: str) -> None:
    data = text.encode()
    group.attrs.create(name, np.array(data, dtype=h5py.string_dtype("utf-8", len(data))))


def _put_reasons(group: h5py.Group, reasons: Sequence[str | None]) -> None:
    places: dict[str, int] = {}
    numbers = [
        -1 if reason is None else places.setdefault(reason, len(places)) for reason in reasons
    ]
    _put(group, "reason", np.array(numbers, np.int32))
    _put(group, "reasons", _texts(list(places)))


def _texts(texts: Sequence[str]) -> NDArray[Any]:
    data = [text.encode() for text in texts]
    width = max(map(len, data), default=1) or 1
    return np.array(data, dtype=h5py.string_dtype("utf-8", width))


def _put(group: h5py.Group, name: str, values: NDArray[Any]) -> None:
    dataset = _create(group, name, values.shape, values.dtype)
    if values.size:
        dataset[...] = values


def _create(
    group: h5py.Group, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], **more: Any
) -> h5py.Dataset:
    """Make a dataset of checksummed chunks of whole rows."""
    if not shape[0] and "maxshape" not in more:
        return group.create_dataset(name, shape, dtype, **more)
    row_bytes = dtype.itemsize * int(np.prod(shape[1:]))
    chunk_rows = max(_CHUNK_BYTES // max(row_bytes, 1), 1)
    if "maxshape" not in more:
        chunk_rows = min(chunk_rows, shape[0])
    chunks = (chunk_rows, *shape[1:])
    return group.create_dataset(name, shape, dtype, chunks=chunks, fletcher32=True, **more)
