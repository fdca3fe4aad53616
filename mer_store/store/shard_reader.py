"""One array of a part, read by computed offset: no metadata is opened, every chunk is checked once."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from mer_store.store.clip_checks import check_of, row_bytes
from mer_store.store.mappings import Mapping
from mer_store.store.shard import CRC_BYTES, ArrayInfo, crc_of
from mer_store.store.shard_file import Array, ChunkDamaged, ShardFile

Rows = NDArray[np.int64]
ClipChecks = Callable[[], NDArray[np.uint32] | None]


class ClipRun(NamedTuple):
    """Rows that follow each other."""

    start: int
    n_rows: int
    clip: int | None = None
    """Number, in the part, of the clip that has just these rows."""


#: Reading from front to back, so many bytes are asked for at once: the system reads ahead by what is asked.
_BATCH_BYTES = 1 << 22
#: Rows are checked one by one where they are at most this share of the chunks they lie in: that many take
#: as long to fetch and to check as the chunks whole.
_FEW_ROWS = 1 / 8
#: Files that should be larger than this are looked at before room is made for their rows.
_LARGE_BYTES = 1 << 25


class ShardReader:
    """Reads one regular shard.

    Parameters
    ----------
    part
        The part's folder.
    name
        The array's path inside it, e.g. ``18`` or ``images/offsets``.
    info
        As the commit record says.
    clip_checks
        Returns [clips]: the checksum of each clip's rows; None where there is none.

    Raises
    ------
    ChunkDamaged
        The array is large, and its file is not there or not as large.
    """

    def __init__(
        self, part: Path, name: str, info: ArrayInfo, clip_checks: ClipChecks = lambda: None
    ) -> None:
        self.info = info
        self._file = ShardFile(part, name, info)
        self.dtype = self._file.dtype
        self._clip_checks = clip_checks
        self._chunk_rows = info.chunk_rows or 1
        self._row_bytes, self._stride = info.row_bytes, info.stride
        self._marks = bytearray(info.n_chunks)
        self._verified = np.frombuffer(self._marks, dtype=bool)
        self._checked_clips = bytearray()  # of every clip whether it was checked, once there is one
        if info.shard_bytes > _LARGE_BYTES:  # before anybody makes room for what is not there
            with self._file.opened():
                pass

    # ---- random rows -------------------------------------------------------------------------------

    def take(self, rows: Rows, *, verify: bool, clips: Rows | None = None) -> Array:
        """Return single rows [rows, ...], in the order given.

        Where each is all that a clip of the part has, and `clips` are their numbers, a few rows are checked
        by the clips' checksums, not by their chunks'.
        """
        if not len(rows):
            return np.empty((0, *self.info.shape[1:]), self.dtype)
        mapping = self._file.mapped()
        chunk, inside = np.divmod(rows, self._chunk_rows)
        places = chunk * self._stride + inside * self._row_bytes
        unchecked = self._unchecked(chunk, clips) if verify else np.empty(0, np.intp)
        chunks = np.unique(chunk[unchecked])
        few = len(unchecked) <= len(chunks) * self._chunk_rows * _FEW_ROWS
        checks = self._clip_checks() if clips is not None and len(unchecked) and few else None
        if checks is None and len(chunks):
            self._verify(mapping, chunks)
        mapping.fetch(places, self._row_bytes)
        if checks is not None and clips is not None:
            self._verify_rows(mapping, rows[unchecked], places[unchecked], clips[unchecked], checks)
        taken: Array = mapping.chunks[chunk, inside]
        return taken

    def _unchecked(self, chunk: Rows, clips: Rows | None) -> NDArray[np.intp]:
        """Return which of some rows were checked neither with their chunk nor with their clip."""
        checked = self._verified[chunk]
        if clips is not None and self._checked_clips and not checked.all():
            checked |= np.frombuffer(self._checked_clips, dtype=bool)[clips]
        return np.flatnonzero(~checked)

    def copy(self, start: int, out: Array, *, verify: bool, clip: int | None = None) -> None:
        """Read the run of ``len(out)`` rows from `start` into `out`.

        Where they are all rows of the part's clip number `clip`, its checksum is checked, not the chunks'.
        """
        n_rows = len(out)
        if not n_rows:
            return
        mapping = self._file.mapped()
        chunk, inside = divmod(start, self._chunk_rows)
        end_chunk = (start + n_rows - 1) // self._chunk_rows + 1
        if verify and self._is_unchecked(clip, chunk, end_chunk):
            checks = None if clip is None else self._clip_checks()
            if clip is None or checks is None:
                self._verify(mapping, np.arange(chunk, end_chunk))
            else:
                self._verify_clip(mapping, start, n_rows, clip, checks)
        done = 0
        while done < n_rows:
            n = min(n_rows - done, self._chunk_rows - inside)
            out[done : done + n] = mapping.chunks[chunk, inside : inside + n]
            done += n
            chunk, inside = chunk + 1, 0

    def prefetch(self, runs: Sequence[ClipRun], *, verify: bool) -> None:
        """Ask for runs of rows and what checks them, without waiting, unless all seem to be in memory."""
        runs = [run for run in runs if run.n_rows]
        if not runs:
            return
        mapping = self._file.mapped()
        # The ends of a run may be in memory because its neighbours were read.
        middles = [self._place(run.start + run.n_rows // 2) for run in runs]
        if mapping.seems_to_hold(middles):
            return
        for start, n_rows, clip in runs:
            first, last = start // self._chunk_rows, (start + n_rows - 1) // self._chunk_rows
            begin, end = self._place(start), self._place(start + n_rows - 1) + self._row_bytes
            unchecked = verify and self._is_unchecked(clip, first, last + 1)
            if unchecked and (clip is None or self._clip_checks() is None):
                begin, end = first * self._stride, (last + 1) * self._stride
            mapping.will_need(np.array([begin]), end - begin)

    def _place(self, row: int) -> int:
        chunk, inside = divmod(row, self._chunk_rows)
        return chunk * self._stride + inside * self._row_bytes

    def _verify(self, mapping: Mapping, chunks: NDArray[np.int64]) -> None:
        """Check the checksums of chunks that were not checked before."""
        fresh = chunks[~self._verified[chunks]]
        places = fresh * self._stride
        mapping.fetch(places, self._stride)
        data = np.frombuffer(mapping.memory, dtype=np.uint8)
        for chunk, place in zip(fresh.tolist(), places.tolist(), strict=True):
            end = place + self._stride - CRC_BYTES
            self._check(chunk, data[place:end], data[end : end + CRC_BYTES].tobytes())

    def _verify_rows(
        self, mapping: Mapping, rows: Rows, places: Rows, clips: Rows, checks: NDArray[np.uint32]
    ) -> None:
        """Check the checksums of clips of one row each, which lie at `places`."""
        memory, n_bytes = memoryview(mapping.memory), self._row_bytes
        found = [crc32c(memory[place : place + n_bytes]) for place in places.tolist()]
        wrong = np.flatnonzero(np.array(found, dtype=np.uint32) != checks[clips])
        if len(wrong):
            row = int(rows[wrong[0]])
            raise self._differs(row, row + 1)
        self._checked_clips = self._checked_clips or bytearray(len(checks))
        np.frombuffer(self._checked_clips, dtype=bool)[clips] = True

    def _differs(self, start: int, stop: int) -> ChunkDamaged:
        return ChunkDamaged(
            f"{self._file.path}: rows differ from the clip's checksum", (start, stop)
        )

    def _verify_clip(
        self, mapping: Mapping, start: int, n_rows: int, clip: int, checks: NDArray[np.uint32]
    ) -> None:
        """Check the checksum of a clip's rows."""
        memory, stop = memoryview(mapping.memory), start + n_rows
        pieces = [memory[begin:end] for begin, end in row_bytes(self.info, start, stop)]
        if check_of(pieces) != checks[clip]:
            raise self._differs(start, stop)
        self._checked_clips = self._checked_clips or bytearray(len(checks))
        self._checked_clips[clip] = True

    def _is_unchecked(self, clip: int | None, first: int, end: int) -> bool:
        """Tell whether neither a clip nor all the chunks it lies in were checked before."""
        if clip is not None and self._checked_clips and self._checked_clips[clip]:
            return False
        return self._marks.find(0, first, end) >= 0

    def _check(self, chunk: int, data: Array, crc: bytes) -> None:
        if crc_of(data) != int.from_bytes(crc, "little"):
            first = chunk * self._chunk_rows
            span = (first, min(first + self._chunk_rows, self.info.n_rows))
            raise ChunkDamaged(f"{self._file.path}: chunk {chunk}: checksum differs", span)
        self._verified[chunk] = True

    # ---- spans: rows of whole chunks, up to the array's end -----------------------------------------

    def spans(self, n_bytes: int) -> list[tuple[int, int]]:
        """Cut the array into runs of rows, each of whole chunks of about so many bytes together."""
        n_rows, step = self.info.n_rows, max(n_bytes // self._stride, 1) * self._chunk_rows
        return [(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]

    def stream(
        self, start: int = 0, stop: int | None = None, *, verify: bool
    ) -> Iterator[tuple[int, Array]]:
        """Yield (first row, rows) of a span piece by piece; the rows are overwritten by the next piece."""
        info, chunk_rows = self.info, self._chunk_rows
        stop = info.n_rows if stop is None else stop
        first, end, n_batch = start // chunk_rows, -(-stop // chunk_rows), self._batch_chunks
        buffer = np.empty((min(n_batch, end - first) * chunk_rows, *info.shape[1:]), self.dtype)
        with self._file.source(first, end) as source:
            for chunk in range(first, end, n_batch):
                n_chunks = min(n_batch, end - chunk)
                self._read_chunks(source, chunk, n_chunks, buffer, verify=verify)
                row = chunk * chunk_rows
                yield row, buffer[: min(n_chunks * chunk_rows, stop - row)]

    def read(self, out: Array, start: int = 0, *, verify: bool) -> None:
        """Read the span of ``len(out)`` rows from `start` into contiguous `out`, with no copy between."""
        info, chunk_rows = self.info, self._chunk_rows
        first, n_whole = start // chunk_rows, len(out) // chunk_rows
        n_left = len(out) - n_whole * chunk_rows
        with self._file.source(first, first + n_whole + (n_left > 0)) as source:
            for done in range(0, n_whole, self._batch_chunks):
                n_chunks = min(self._batch_chunks, n_whole - done)
                place = out[done * chunk_rows : (done + n_chunks) * chunk_rows]
                self._read_chunks(source, first + done, n_chunks, place, verify=verify)
            if n_left:
                last = np.empty((chunk_rows, *info.shape[1:]), self.dtype)
                self._read_chunks(source, first + n_whole, 1, last, verify=verify)
                out[n_whole * chunk_rows :] = last[:n_left]

    @property
    def _batch_chunks(self) -> int:
        """Chunks that are read by one call; a call takes at most 1,024 pieces."""
        return max(min(_BATCH_BYTES // self._stride, self.info.n_chunks, 512), 1)

    def _read_chunks(
        self, source: Mapping | int, first: int, n_chunks: int, out: Array, *, verify: bool
    ) -> None:
        """Read chunks into the front of contiguous `out`."""
        n_bytes = self.info.chunk_bytes
        data = out.reshape(-1).view(np.uint8)
        chunks = [data[n * n_bytes : (n + 1) * n_bytes] for n in range(n_chunks)]
        checksums = self._file.read_chunks(source, first, chunks)
        for number, checksum in enumerate(checksums if verify else []):
            self._check(first + number, chunks[number], checksum)
