"""Clips whose cached states stand in for their media: adapted features of a store without raw media."""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from extractors.audio.adapted import AdaptedExtractor
from extractors.contract import (
    Blob,
    ClipEmpty,
    ClipFailed,
    ClipProblem,
    Extractor,
    Identity,
    Loaded,
    Origin,
    Source,
    States,
    Want,
)
from mer_store.spec import Spec
from mer_store.store.ledger import Status
from mer_store.store.store import Store

Row = tuple[Status, Origin, str | None]


class FromCache:
    """An extractor that reads a clip's states from a store where they are fresh, else its media.

    A cached row's digest is that of the media the states were made from, so that what is made of it goes
    stale with them. A clip that is changed on disk is read from there.
    """

    def __init__(
        self, extractor: AdaptedExtractor, store: Store, sources: Sequence[Source]
    ) -> None:
        self._extractor = extractor
        self.identity: Identity = extractor.identity
        self.batch_limit = extractor.batch_limit
        self.equal_sizes = extractor.equal_sizes
        base = Spec(**extractor.base_spec)
        self._features = next((item for item in store.feature_sets() if item.spec == base), None)
        self._rows = self._look(sources)
        self._reading = threading.Lock()

    @property
    def n_cached(self) -> int:
        """Clips that need no media."""
        return sum(status == Status.OK for status, _, _ in self._rows.values())

    def _look(self, sources: Sequence[Source]) -> dict[str, Row]:
        """Return what the base feature set says of each clip whose media are not here, or unchanged."""
        if self._features is None:
            return {}
        ids = [source.clip_id for source in sources]
        ledger = self._features.ledger(ids)
        complete = np.asarray(ledger.has(self._extractor.base_layers).all(axis=1))
        rows: dict[str, Row] = {}
        for number, source in enumerate(sources):
            status = Status(int(ledger.status[number]))
            if status == Status.MISSING or (status == Status.OK and not complete[number]):
                continue
            n_bytes, mtime_ns = int(ledger.n_bytes[number]), int(ledger.mtime_ns[number])
            if ledger.digest[number] is None or not _unchanged(source.path, n_bytes, mtime_ns):
                continue
            origin = Origin(ledger.digest[number], n_bytes, mtime_ns if mtime_ns >= 0 else None)
            rows[source.clip_id] = status, origin, ledger.reasons[number]
        return rows

    def path(self, source: Source) -> Path | None:
        """Return the clip's media file."""
        return self._extractor.path(source)

    def open(self, source: Source) -> Blob:
        """Return the identity of a cached clip, else read its media."""
        if source.clip_id not in self._rows:
            return self._extractor.open(source)
        return Blob(source.clip_id, self._rows[source.clip_id][1], None, None)

    def load(self, blob: Blob) -> Loaded:
        """Read a clip's cached states, else decode it. Raises what the cache says of one without."""
        if blob.path is not None or blob.data is not None or self._features is None:
            return self._extractor.load(blob)
        status, _, reason = self._rows[blob.clip_id]
        if status != Status.OK:
            kind = ClipEmpty if status == Status.EMPTY else ClipFailed
            raise kind(reason or "no states in the cache")
        layers = self._extractor.base_layers
        with self._reading:
            if self._features.spec.level == "frame":
                [rows] = self._features.ragged(layers, [blob.clip_id], np.float32)
                return self._extractor.load_states(blob.clip_id, np.ascontiguousarray(rows[:, 0]))
            return self._extractor.load_states(
                blob.clip_id, self._features.read(layers, [blob.clip_id], np.float32)[0]
            )

    def __call__(self, batch: Sequence[Loaded], want: Want) -> list[States | ClipProblem]:
        """Run the extractor."""
        return self._extractor(batch, want)


def from_cache(extractor: Extractor, store: Store, sources: Sequence[Source]) -> Extractor:
    """Return `extractor` as it is, or with a cache before it where it can take cached states."""
    if isinstance(extractor, AdaptedExtractor):
        return FromCache(extractor, store, sources)
    return extractor


def _unchanged(path: Path | None, n_bytes: int, mtime_ns: int) -> bool:
    """Tell whether a file is as it was extracted; one that is not here counts as such."""
    if path is None:
        return True
    try:
        status = path.stat()
    except (OSError, ValueError):
        return True
    return (status.st_size, status.st_mtime_ns) == (n_bytes, mtime_ns)
