"""Checking one part against its commit record, down to the clips and layers that are hit."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mer_store.errors import MerStoreError, StoreDamagedError
from mer_store.layers import layer_from_name
from mer_store.store.clip_checks import CLIP_CHECKS
from mer_store.store.commit import GROUP_FILE
from mer_store.store.file_look import Hook, Look, Wanted, look
from mer_store.store.files_below import files_below
from mer_store.store.finding import Finding, Scope
from mer_store.store.layout import MAX_RECORD_BYTES, check_folder, reading
from mer_store.store.metadata import member_metadata
from mer_store.store.part_files import OFFSETS
from mer_store.store.part_texts import wrong_texts
from mer_store.store.plain_file import read_small
from mer_store.store.record import CommitRecord, FileFacts
from mer_store.store.shard import shard_path
from mer_store.store.shard_file import ChunkDamaged
from mer_store.store.zarr_reader import ZarrReader

__all__ = ["Finding", "PartCheck"]

Looked = Look | bytes | str
"""Of a file: what one reading told, its text where it is small, or why it cannot be read."""

MISSING = "missing"
_STRANGE = "not in the commit record"


class PartCheck:
    """Checks one part against its record.

    Parameters
    ----------
    name, modality
        Of the feature set.
    part
        The part's folder.
    record
        Its commit record.
    text
        What the record was read from.
    deep
        Look at every value, too: finite, and each clip's rows as their checksum says.
    hook
        Told of bytes read; may raise to stop.
    """

    def __init__(
        self,
        name: str,
        part: Path,
        record: CommitRecord,
        text: bytes,
        *,
        modality: str = "",
        deep: bool = False,
        hook: Hook | None = None,
    ) -> None:
        self._name, self._modality = name, modality
        self._part, self._record, self._text = part, record, text
        self._deep, self._hook = deep, hook
        self._ok = [row for row in record.ledger if row.status == "ok"]
        self._starts = np.cumsum([0, *[row.n_rows for row in self._ok]], dtype=np.int64)
        self._arrays = {
            shard_path(name, info): name for name, info in record.arrays.items() if info.n_rows
        }

    def missing(self) -> Finding | None:
        """Return what is wrong with the part's folder as such."""
        try:
            with reading(self._part):
                check_folder(self._part)
                self._part.lstat()
        except StoreDamagedError as error:
            return self._finding("", str(error))
        except FileNotFoundError:
            return self._finding("", "the part's folder is missing, yet its record is there")
        return None

    def jobs(self) -> list[Callable[[], dict[str, Looked]]]:
        """Return what reads and checks every file once, some files each; they may run side by side."""
        files = sorted(self._record.files)
        texts = [path for path in files if path.endswith(GROUP_FILE)]  # small: in one go
        groups = [*([path] for path in files if not path.endswith(GROUP_FILE)), texts]
        return [partial(self._look, group) for group in groups]

    def findings(self, looked: Mapping[str, Looked]) -> Iterator[Finding]:
        """Yield what is wrong, given what became of all `jobs`, put together."""
        yield from self._unlisted()
        good: dict[str, Looked] = {}
        for path, facts in sorted(self._record.files.items()):
            finding = self._file(path, facts, looked[path])
            if finding is None:
                good[path] = looked[path]
            else:
                yield finding
        yield from self._strangers()
        texts = {path: text for path, text in good.items() if isinstance(text, bytes)}
        if texts.keys() >= {path for path in self._record.files if path.endswith(GROUP_FILE)}:
            for path, problem in wrong_texts(self._record, texts, self._text):
                yield self._finding(path, problem)
        yield from self._arrays_of(good)

    # ---- reading -----------------------------------------------------------------------------------

    def _look(self, paths: Iterable[str]) -> dict[str, Looked]:
        return {path: self._look_at(path) for path in paths}

    def _look_at(self, path: str) -> Looked:
        try:
            with reading(self._part / path):
                if path.endswith(GROUP_FILE):
                    return read_small(self._part, MAX_RECORD_BYTES, path)
                n_bytes = self._record.files[path].n_bytes
                return look(self._part, path, n_bytes, self._wanted(path), self._hook)
        except FileNotFoundError:
            return MISSING
        except (OSError, StoreDamagedError) as error:
            return str(error)

    def _wanted(self, path: str) -> Wanted | None:
        """Say what to find out about an array; None for a file that is no shard of ours."""
        name = self._arrays.get(path, "")
        info = self._record.arrays.get(name)
        if info is None or info.chunk_rows is None:
            return None
        if name.endswith(OFFSETS) or name == CLIP_CHECKS:
            return Wanted(info, keep=True)
        deep = self._deep and self._is_layer(name)
        has_checks = deep and CLIP_CHECKS in self._record.arrays
        return Wanted(info, finite=deep, starts=self._starts if has_checks else None)

    def _is_layer(self, name: str) -> bool:
        return layer_from_name(name) in self._record.layers

    # ---- judging -----------------------------------------------------------------------------------

    def _finding(
        self,
        path: str,
        problem: str,
        rows: NDArray[np.int64] | None = None,
        *,
        scope: Scope = "part",
    ) -> Finding:
        """Name the layer that `path` belongs to and the clips of its `rows`; None is all of them."""
        top = path.split("/", maxsplit=1)[0]
        layers, clip_ids = self._record.layers, self._record.clip_ids
        if layer_from_name(top) in layers:
            layers = (layer_from_name(top),)
        elif top in self._record.tables:
            layers, rows = (), None
        if scope == "stray":
            layers, clip_ids, rows = (), (), None
        if rows is not None:
            at = np.unique(np.searchsorted(self._starts[1:], rows, side="right"))
            clip_ids = tuple(self._ok[n].clip_id for n in at.tolist() if n < len(self._ok))
        part_id = self._record.part_id
        inside = f"parts/{part_id}/{path}".rstrip("/")
        return Finding(
            self._name, part_id, inside, problem, layers, clip_ids, scope, self._modality
        )

    def _unlisted(self) -> Iterator[Finding]:
        """Report files that the part must have and the record does not name."""
        members = member_metadata(self._record.arrays)
        expected = {GROUP_FILE, *(f"{name}/{GROUP_FILE}" for name in members)}
        expected |= {p for p, name in self._arrays.items() if self._record.arrays[name].chunk_rows}
        for path in sorted(expected - set(self._record.files)):
            yield self._finding(path, _STRANGE)

    def _file(self, path: str, facts: FileFacts, looked: Looked) -> Finding | None:
        """Compare a file's size and digest; name the rows whose chunks are hit, where that can be told."""
        if isinstance(looked, str):
            return self._finding(path, looked)
        found = FileFacts.of(looked) if isinstance(looked, bytes) else looked.facts
        if found.n_bytes != facts.n_bytes:
            return self._finding(path, f"expected {facts.n_bytes} bytes, got {found.n_bytes}")
        if found.sha256 == facts.sha256:
            return None
        damaged = [] if isinstance(looked, bytes) or looked.wrong_index else looked.damaged
        rows = np.concatenate([np.arange(*span) for span in damaged]) if damaged else None
        return self._finding(path, "the SHA-256 differs from the record's", rows)

    def _strangers(self) -> Iterator[Finding]:
        """Report files and links that no record speaks of."""
        for path in sorted(path for path, _ in files_below(self._part)):
            if path not in self._record.files:
                yield self._finding(path, _STRANGE, scope="stray")

    def _arrays_of(self, good: Mapping[str, Looked]) -> Iterator[Finding]:
        """Check what lies inside the shards whose bytes are the record's."""
        info, checks = self._record.arrays.get(CLIP_CHECKS), None
        known = good.get(shard_path(CLIP_CHECKS, info)) if info else None
        if isinstance(known, Look) and not known.damaged:
            checks = known.values
        for name, info in self._record.arrays.items():
            path = shard_path(name, info)
            if info.chunk_rows is None:
                yield from self._foreign(name, path)
            elif isinstance(found := good.get(path), Look):
                yield from self._shard(name, path, found, checks)

    def _shard(
        self, name: str, path: str, found: Look, checks: NDArray[np.uint32] | None
    ) -> Iterator[Finding]:
        if found.wrong_index:
            yield self._finding(path, "the shard's index is wrong")
        elif found.damaged:
            rows = np.concatenate([np.arange(*span) for span in found.damaged])
            yield self._finding(path, "checksums of chunks differ", rows)
        elif found.not_finite:
            yield self._finding(path, "values that are not finite", np.array(found.not_finite))
        elif name.endswith(OFFSETS) and found.values is not None:
            if problem := self._wrong_offsets(name, found.values):
                yield self._finding(path, problem)
        elif found.checks is not None and checks is not None:
            column = self._record.layers.index(layer_from_name(name))
            bad = np.flatnonzero(found.checks != checks[:, column])
            if len(bad):
                rows = np.unique(self._starts[bad])
                yield self._finding(path, f"rows differ from the checksums in {CLIP_CHECKS}", rows)

    def _foreign(self, name: str, path: str) -> Iterator[Finding]:
        """Read an array that another program wrote."""
        bad: list[NDArray[np.int64]] = []
        info = self._record.arrays[name]
        offsets = np.empty(info.shape, np.int64) if name.endswith(OFFSETS) else None
        finite = self._deep and self._is_layer(name)
        try:
            reader = ZarrReader(self._part, name, info, self._record.files)
            for start, block in reader.stream(verify=True):
                if offsets is not None:
                    offsets[start : start + len(block)] = block
                if finite and not np.isfinite(block).all():
                    bad.append(start + np.flatnonzero(~np.isfinite(block).all(axis=1)))
        except (ChunkDamaged, OSError, ValueError, MerStoreError) as error:
            yield self._finding(path, str(error))
            return
        if bad:
            yield self._finding(path, "values that are not finite", np.concatenate(bad))
        if offsets is not None and (problem := self._wrong_offsets(name, offsets)):
            yield self._finding(path, problem)

    def _wrong_offsets(self, name: str, offsets: NDArray[np.int64]) -> str | None:
        """Say what is wrong with where clips' rows start."""
        n_clips = len(self._ok)
        fits = offsets.shape == (n_clips + 1,) and offsets[0] == 0
        if not fits or (offsets[1:] < offsets[:-1]).any():
            return f"expected {n_clips + 1} ascending offsets from 0"
        prefix = name.removesuffix(OFFSETS)
        if not prefix:
            same = (offsets == self._starts).all()
            return None if same else "offsets differ from the ledger's rows"
        arrays = self._record.arrays.items()
        lengths = {i.n_rows for other, i in arrays if other.startswith(prefix) and other != name}
        same = lengths == {int(offsets[-1])}
        return None if same else f"offsets end at {offsets[-1]}, columns at {lengths}"
