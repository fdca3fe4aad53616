"""Checking one part against its commit record, down to the clips and layers that are hit."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_store.errors import MerStoreError, StoreDamagedError, shown
from mer_store.layers import Layer, layer_from_name
from mer_store.store.commit import ATTRIBUTE, GROUP_FILE, file_facts
from mer_store.store.layout import MAX_RECORD_BYTES, check_folder, read_small, reading
from mer_store.store.metadata import array_metadata, member_metadata, part_metadata, unknown_pieces
from mer_store.store.part_files import OFFSETS
from mer_store.store.record import CommitRecord
from mer_store.store.shard import shard_path
from mer_store.store.shard_reader import ChunkDamaged, ShardReader
from mer_store.store.zarr_reader import ZarrReader
from mer_store.strict_json import parse


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    feature_set: str
    part_id: str
    path: str
    """The file, relative to the feature set's folder."""
    problem: str
    layers: tuple[Layer, ...] = ()
    """Layers that are hit."""
    clip_ids: tuple[str, ...] = ()
    """Clips whose rows are hit."""

    def __str__(self) -> str:
        return shown(f"{self.feature_set}: {self.path}: {self.problem}")


class PartCheck:
    """Checks one part against its record."""

    def __init__(self, feature_set_name: str, part: Path, record: CommitRecord) -> None:
        self._name = feature_set_name
        self._part = part
        self._record = record
        self._ok = [row for row in record.ledger if row.status == "ok"]
        self._ends = np.cumsum([row.n_rows for row in self._ok], dtype=np.int64)

    def findings(self, *, deep: bool) -> Iterator[Finding]:
        """Yield what is wrong with files, metadata, offsets and, where `deep`, values."""
        try:
            check_folder(self._part)
        except StoreDamagedError as error:
            yield self._finding("", str(error))
            return
        damaged = list(self._files())
        yield from damaged
        yield from self._strangers()
        hit = {finding.path for finding in damaged}
        if not any(path.endswith(GROUP_FILE) for path in hit):
            yield from self._metadata()
        for name in self._record.arrays:
            if self._place(name) not in hit:
                yield from self._array(name, deep=deep)

    def _finding(self, path: str, problem: str, rows: NDArray[np.int64] | None = None) -> Finding:
        """Name the layer that `path` belongs to and the clips of its `rows`; None is all of them."""
        top = path.split("/", maxsplit=1)[0]
        layers = self._record.layers
        if layer_from_name(top) in layers:
            layers = (layer_from_name(top),)
        elif top in self._record.tables:
            layers, rows = (), None
        clip_ids = self._record.clip_ids
        if rows is not None:
            at = np.unique(np.searchsorted(self._ends, rows, side="right"))
            clip_ids = tuple(
                self._ok[number].clip_id for number in at.tolist() if number < len(self._ok)
            )
        inside = f"parts/{self._record.part_id}/{path}".rstrip("/")
        return Finding(self._name, self._record.part_id, inside, problem, layers, clip_ids)

    def _place(self, name: str) -> str:
        return f"parts/{self._record.part_id}/{shard_path(name, self._record.arrays[name])}"

    def _files(self) -> Iterator[Finding]:
        """Compare every file's size and digest."""
        shards = {
            shard_path(name, info): name
            for name, info in self._record.arrays.items()
            if info.n_rows
        }
        expected = {
            GROUP_FILE,
            *(f"{name}/{GROUP_FILE}" for name in member_metadata(self._record.arrays)),
        }
        regular = {path for path, name in shards.items() if self._record.arrays[name].chunk_rows}
        for path in sorted((expected | regular) - set(self._record.files)):
            yield self._finding(path, "not in the commit record")
        for path, facts in sorted(self._record.files.items()):
            try:
                with reading(self._part / path):
                    found = file_facts(self._part, path, facts.n_bytes)
            except FileNotFoundError:
                yield self._finding(path, "missing")
                continue
            except (OSError, StoreDamagedError) as error:
                yield self._finding(path, str(error))
                continue
            if found.n_bytes != facts.n_bytes:
                yield self._finding(path, f"expected {facts.n_bytes} bytes, got {found.n_bytes}")
            elif found != facts:
                rows = self._damaged_rows(shards[path]) if path in shards else None
                yield self._finding(path, "the SHA-256 differs from the record's", rows)

    def _damaged_rows(self, name: str) -> NDArray[np.int64] | None:
        """Find the rows whose chunks fail their checksum; None where that cannot be told."""
        info = self._record.arrays[name]
        if info.chunk_rows is None:
            return None
        reader = ShardReader(self._part, name, info)
        block = np.empty((info.chunk_rows, *info.shape[1:]), reader.dtype)
        rows: list[NDArray[np.int64]] = []
        for start in range(0, info.n_rows, info.chunk_rows):
            end = min(start + info.chunk_rows, info.n_rows)
            try:
                reader.copy(start, block[: end - start], verify=True)
            except ChunkDamaged as damage:
                if damage.rows is None:
                    return None
                rows.append(np.arange(*damage.rows))
        return np.concatenate(rows) if rows else None

    def _strangers(self) -> Iterator[Finding]:
        """Report files and links that no record speaks of."""
        for folder, folders, names in os.walk(self._part):
            inside = Path(folder).relative_to(self._part)
            links = [name for name in folders if (Path(folder) / name).is_symlink()]
            for name in sorted([*names, *links]):
                path = (inside / name).as_posix()
                if path not in self._record.files:
                    yield self._finding(
                        path, "not in the commit record", np.zeros(0, dtype=np.int64)
                    )

    def _metadata(self) -> Iterator[Finding]:
        """Compare the ``zarr.json`` texts with the record."""
        try:
            found = {
                path: self._json(path) for path in self._record.files if path.endswith(GROUP_FILE)
            }
        except (OSError, ValueError, MerStoreError) as error:
            yield self._finding(GROUP_FILE, f"cannot be read: {error}")
            return
        members = member_metadata(self._record.arrays)
        for name, member in members.items():
            path = f"{name}/{GROUP_FILE}"
            info = self._record.arrays.get(name)
            if info is not None and info.chunk_rows is None:
                members[name] = found.get(path, {})
                if unknown := unknown_pieces(members[name]):
                    yield self._finding(path, f"refused: {', '.join(unknown)}")
                    return
            elif found.get(path) != (member if info is None else array_metadata(info)):
                yield self._finding(path, "describes another array than the commit record")
        files = {
            path: facts
            for path, facts in self._record.to_values()["files"].items()
            if path != GROUP_FILE
        }
        attributes = {ATTRIBUTE: self._record.to_values() | {"files": files}}
        if found.get(GROUP_FILE) != part_metadata(members, attributes):
            yield self._finding(GROUP_FILE, "describes another part than the commit record")

    def _json(self, path: str) -> Any:
        return parse(read_small(self._part, MAX_RECORD_BYTES, path))

    def _array(self, name: str, *, deep: bool) -> Iterator[Finding]:
        """Check one array's chunks, and what its values must be."""
        info = self._record.arrays[name]
        path = shard_path(name, info)
        try:
            values = self._read(name) if name.endswith(OFFSETS) else None
            if values is not None and (problem := self._wrong_offsets(name, values)):
                yield self._finding(path, problem)
            if values is None:
                yield from self._values(
                    name, path, deep=deep and layer_from_name(name) in self._record.layers
                )
        except (ChunkDamaged, OSError, ValueError) as error:
            span = error.rows if isinstance(error, ChunkDamaged) else None
            yield self._finding(path, str(error), np.arange(*span) if span else None)

    def _reader(self, name: str) -> ShardReader | ZarrReader:
        info = self._record.arrays[name]
        if info.chunk_rows is not None:
            return ShardReader(self._part, name, info)
        return ZarrReader(self._part, name, info, self._record.files)

    def _read(self, name: str) -> NDArray[Any]:
        reader = self._reader(name)
        values = np.empty(reader.info.shape, reader.dtype)
        reader.read(values, verify=True)
        return values

    def _values(self, name: str, path: str, *, deep: bool) -> Iterator[Finding]:
        bad = []
        for start, block in self._reader(name).stream(verify=True):
            if deep and not np.isfinite(block).all():
                bad.append(start + np.flatnonzero(~np.isfinite(block).all(axis=1)))
        if bad:
            yield self._finding(path, "values that are not finite", np.concatenate(bad))

    def _wrong_offsets(self, name: str, offsets: NDArray[Any]) -> str | None:
        """Say what is wrong with where clips' rows start."""
        if (
            offsets.shape != (len(self._ok) + 1,)
            or offsets[0] != 0
            or (offsets[1:] < offsets[:-1]).any()
        ):
            return f"expected {len(self._ok) + 1} ascending offsets from 0"
        prefix = name.removesuffix(OFFSETS)
        if not prefix:
            return (
                None
                if (offsets[1:] == self._ends).all()
                else "offsets differ from the ledger's rows"
            )
        lengths = {
            info.n_rows
            for other, info in self._record.arrays.items()
            if other.startswith(prefix) and other != name
        }
        return (
            None
            if lengths == {int(offsets[-1])}
            else f"offsets end at {offsets[-1]}, columns at {lengths}"
        )
