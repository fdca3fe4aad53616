"""The parts of a feature set, opened for reading as they are needed."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mer_store.errors import StoreDamagedError
from mer_store.store.clip_checks import CLIP_CHECKS
from mer_store.store.commit import read_record
from mer_store.store.index import Index, PartInfo
from mer_store.store.layout import Folders
from mer_store.store.ledger import Status
from mer_store.store.part_files import OFFSETS
from mer_store.store.shard import ArrayInfo
from mer_store.store.shard_file import Array, ChunkDamaged
from mer_store.store.shard_reader import ClipRun, Rows, ShardReader
from mer_store.store.zarr_reader import ZarrReader


class ArrayReader(Protocol):
    """Reads one array of a part; see `ShardReader`."""

    info: ArrayInfo
    dtype: np.dtype[Any]

    def take(self, rows: Rows, *, verify: bool, clips: Rows | None = None) -> Array:
        """Return single rows [rows, ...], in the order given: each all of the clip of that number."""
        ...

    def copy(self, start: int, out: Array, *, verify: bool, clip: int | None = None) -> None:
        """Read the run of ``len(out)`` rows from `start` into `out`: all of the part's clip number `clip`."""
        ...

    def prefetch(self, runs: Sequence[ClipRun], *, verify: bool) -> None:
        """Ask for runs of rows, without waiting for them."""
        ...

    def spans(self, n_bytes: int) -> list[tuple[int, int]]:
        """Cut the array into runs of rows."""
        ...

    def stream(
        self, start: int = 0, stop: int | None = None, *, verify: bool
    ) -> Iterator[tuple[int, Array]]:
        """Yield (first row, rows) of a span piece by piece."""
        ...

    def read(self, out: Array, start: int = 0, *, verify: bool) -> None:
        """Read the span of ``len(out)`` rows from `start` into contiguous `out`."""
        ...


OpenArray = Callable[[PartInfo, str], ArrayReader]
"""Opens an array, by name, of a part."""
_N_NAMED = 5


class Parts:
    """Opens arrays of parts and turns damage into errors that name the clips."""

    def __init__(self, folders: Folders, index: Index, open_array: OpenArray | None = None) -> None:
        self._folders = folders
        self._open_array = open_array or self._open_here
        self._index = index
        self._readers: dict[tuple[int, str], ArrayReader] = {}
        self._checks: dict[str, dict[str, NDArray[np.uint32]]] = {}
        self._offsets: dict[tuple[int, str], NDArray[np.int64]] = {}

    def array(self, part: int, name: str) -> ArrayReader:
        """Return the reader of one array; of files only large ones are looked at yet."""
        reader = self._readers.get((part, name))
        if reader is None:
            info = self._index.parts[part]
            with self.naming(part, name[: name.rfind("/") + 1] or name):
                reader = self._readers[part, name] = self._open_array(info, name)
        return reader

    def _open_here(self, info: PartInfo, name: str) -> ArrayReader:
        array = info.arrays[name]
        folder = self._folders.part(info.part_id)
        if array.chunk_rows is not None:
            return ShardReader(folder, name, array, partial(self._clip_checks, info, name))
        record = read_record(self._folders, info.part_id)
        return ZarrReader(folder, name, array, record.files if record is not None else {})

    def clip_checks(self, part: int, name: str) -> NDArray[np.uint32] | None:
        """Return [clips]: the checksum of each clip's rows in a layer, as the part has it.

        None where it has none, or where they are damaged: what they would check has chunks of its own.
        """
        return self._clip_checks(self._index.parts[part], name)

    def _clip_checks(self, info: PartInfo, name: str) -> NDArray[np.uint32] | None:
        checks = self._checks.get(info.part_id)
        if checks is None:
            checks = self._checks[info.part_id] = self._read_clip_checks(info)
        return checks.get(name)

    def _read_clip_checks(self, info: PartInfo) -> dict[str, NDArray[np.uint32]]:
        array = info.arrays.get(CLIP_CHECKS)
        if array is None or array.chunk_rows is None:
            return {}
        checks = np.empty(array.shape, np.uint32)
        try:
            ShardReader(self._folders.part(info.part_id), CLIP_CHECKS, array).read(
                checks, verify=True
            )
        except (ChunkDamaged, OSError):
            return {}  # the chunks have checksums, too; `verify` tells
        return dict(zip(map(str, info.layers), checks.T, strict=True))

    def offsets(self, part: int, prefix: str, *, verify: bool) -> NDArray[np.int64]:
        """Return [clips + 1]: where each clip's rows start, in a side table (``images/``)."""
        if (part, prefix) not in self._offsets:
            reader = self.array(part, prefix + OFFSETS)
            offsets = np.empty(reader.info.shape, dtype=np.int64)
            with self.naming(part, prefix):
                reader.read(offsets, verify=verify)
                if offsets[0] != 0 or (offsets[1:] < offsets[:-1]).any():
                    raise ChunkDamaged(f"{prefix}{OFFSETS}: not ascending from 0")
                arrays = self._index.parts[part].arrays.items()
                columns = {
                    info.n_rows
                    for name, info in arrays
                    if name.startswith(prefix) and name != prefix + OFFSETS
                }
                if columns - {int(offsets[-1])}:
                    raise ChunkDamaged(f"{prefix}{OFFSETS}: ends at {offsets[-1]}, not at the rows")
            self._offsets[part, prefix] = offsets
        return self._offsets[part, prefix]

    def naming(self, part: int, name: str) -> "_Naming":
        """Say which part, layer and clips are hit where an array turns out to be damaged."""
        return _Naming(self, part, name)

    def damage(self, error: Exception, part: int, name: str) -> StoreDamagedError:
        """Return the error that names what is hit; table names end with a slash."""
        span = error.rows if isinstance(error, ChunkDamaged) and not name.endswith("/") else None
        clip_ids = self._clips_of_rows(part, span)
        more = f" and {len(clip_ids) - _N_NAMED} more" if len(clip_ids) > _N_NAMED else ""
        info = self._index.parts[part]
        what = f"table {name[:-1]}" if name.endswith("/") else f"layer {name}"
        return StoreDamagedError(
            f"{error}. Damaged: part {info.part_id}, {what}, "
            f"clips {', '.join(clip_ids[:_N_NAMED])}{more}. "
            f"`mer-store verify` lists all damage; pull the part again, or remove "
            f"{self._folders.commit(info.part_id)} and extract these clips again"
        )

    def _clips_of_rows(self, part: int, span: tuple[int, int] | None) -> list[str]:
        rows = self._index.rows
        hit = (rows["part"] == part) & (rows["status"] == Status.OK)
        if span is not None:
            hit &= (rows["row_start"] < span[1]) & (rows["row_start"] + rows["n_rows"] > span[0])
        hits = rows[hit]
        ids: list[str] = np.strings.decode(
            hits[np.argsort(hits["clip_row"])]["clip_id"], "utf-8"
        ).tolist()
        return ids


class _Naming:
    """Turns damage met inside a ``with`` into an error that names the clips."""

    __slots__ = ("_name", "_part", "_parts")

    def __init__(self, parts: Parts, part: int, name: str) -> None:
        self._parts, self._part, self._name = parts, part, name

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, (ChunkDamaged, OSError)):
            raise self._parts.damage(error, self._part, self._name) from error
