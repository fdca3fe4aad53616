"""Clips in hand: a note that outlives a worker of what it was decoding and computing when it died."""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from extractors.contract import Blob, ClipProblem, Extractor, Loaded, Source, States, Want

TAKEN, LAID_DOWN = "+", "-"


class Noted:
    """An extractor that notes each clip it takes in hand, in a file: memory is gone with the process.

    A clip is in hand while it is read and decoded, laid down while it waits, and in hand again while the
    model computes. Where the file cannot be written, nothing is noted.
    """

    def __init__(self, extractor: Extractor, path: Path) -> None:
        self._extractor = extractor
        self.identity = extractor.identity
        self.batch_limit = extractor.batch_limit
        self.equal_sizes = extractor.equal_sizes
        self._file: int | None = None
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
            self._file = os.open(path, flags, 0o644)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            os.close(file)

    def path(self, source: Source) -> Path | None:
        """As the extractor."""
        return self._extractor.path(source)

    def open(self, source: Source) -> Blob:
        """As the extractor; the clip is in hand."""
        self._note(TAKEN, [source.clip_id])
        try:
            return self._extractor.open(source)
        except BaseException:
            self._note(LAID_DOWN, [source.clip_id])
            raise

    def load(self, blob: Blob) -> Loaded:
        """As the extractor; the clip is laid down."""
        try:
            return self._extractor.load(blob)
        finally:
            self._note(LAID_DOWN, [blob.clip_id])

    def __call__(self, batch: Sequence[Loaded], want: Want) -> list[States | ClipProblem]:
        """As the extractor; meanwhile the clips are in hand."""
        clip_ids = [loaded.clip_id for loaded in batch]
        self._note(TAKEN, clip_ids)
        try:
            return self._extractor(batch, want)
        finally:
            self._note(LAID_DOWN, clip_ids)

    def _note(self, mark: str, clip_ids: Iterable[str]) -> None:
        file = self._file
        if file is not None:
            with suppress(OSError):
                os.write(file, "".join(f"{mark}{clip_id}\n" for clip_id in clip_ids).encode())


def read_in_hand(path: Path) -> frozenset[str] | None:
    """Return the clips that were in hand at the end of the note at `path`; None where there is none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return None
    taken: set[str] = set()
    for line in lines:
        if line.startswith(TAKEN):
            taken.add(line[1:])
        else:
            taken.discard(line[1:])
    return frozenset(taken)
