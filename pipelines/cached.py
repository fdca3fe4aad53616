"""Clips whose cached states stand in for their media: adapted features of a store without raw media."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

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
    TakesStates,
    Want,
)
from mer_store.errors import StoreDamagedError
from mer_store.spec import BYTES, Spec
from mer_store.store.feature_set import FeatureSet
from mer_store.store.ledger import Status
from mer_store.store.store import Store


class Taker(Extractor, TakesStates, Protocol):
    """An extractor that takes states."""


@dataclass(frozen=True, slots=True)
class CachedRow:
    """What the base feature set says of one clip."""

    status: Status
    origin: Origin | None
    """None where not even the bytes could be read."""
    reason: str | None
    sure: bool
    """The media are as they were, or not here. Else they have the size they had, at another time."""

    def problem(self) -> ClipProblem:
        """Return why there are no states."""
        kind = ClipEmpty if self.status == Status.EMPTY else ClipFailed
        return kind(self.reason or "no states in the cache")


class FromCache:
    """An extractor that reads a clip's states from a store where they are fresh, else its media.

    A cached row's digest is that of the media the states were made from, so that what is made of it goes
    stale with them. A clip that is changed on disk is read from there.
    """

    def __init__(self, extractor: Taker, store: Store, sources: Sequence[Source]) -> None:
        self._extractor = extractor
        self.identity: Identity = extractor.identity
        self.batch_limit = extractor.batch_limit
        self.equal_sizes = extractor.equal_sizes
        base = Spec(**(extractor.base_spec or {}))
        self._features = next((item for item in store.feature_sets() if item.spec == base), None)
        self._rows = self._look(sources)
        self._reading = threading.Lock()

    def _look(self, sources: Sequence[Source]) -> dict[str, CachedRow]:
        """Return what the base feature set says of each clip whose media are not here, or look unchanged."""
        if self._features is None:
            return {}
        ids = [source.clip_id for source in sources]
        ledger = self._features.ledger(ids)
        complete = np.asarray(ledger.has(self._extractor.base_layers).all(axis=1))
        rows: dict[str, CachedRow] = {}
        for number, source in enumerate(sources):
            status = Status(int(ledger.status[number]))
            if status == Status.MISSING or (status == Status.OK and not complete[number]):
                continue
            n_bytes, mtime_ns = int(ledger.n_bytes[number]), int(ledger.mtime_ns[number])
            facts = _facts(source.path)
            if facts is not None and facts[0] != n_bytes:
                continue
            digest, origin = ledger.digest[number], None
            if digest is not None:
                origin = Origin(digest, max(n_bytes, 0), mtime_ns if mtime_ns >= 0 else None)
            sure = facts is None or facts[1] == mtime_ns
            rows[source.clip_id] = CachedRow(status, origin, ledger.reasons[number], sure)
        return rows

    def path(self, source: Source) -> Path | None:
        """Return the clip's media file."""
        return self._extractor.path(source)

    def open(self, source: Source) -> Blob:
        """Return the identity of a cached clip, else read its media; in doubt, read them and compare."""
        row = self._rows.get(source.clip_id)
        if row is None:
            return self._extractor.open(source)
        if row.origin is None:
            raise row.problem()
        if row.sure:
            return Blob(source.clip_id, row.origin, None, None)
        blob = self._extractor.open(source)
        same = blob.origin.digest == row.origin.digest
        return Blob(source.clip_id, blob.origin, None, None) if same else blob

    def load(self, blob: Blob) -> Loaded:
        """Read a clip's cached states, else decode it. Raises what the cache says of one without."""
        if blob.path is not None or blob.data is not None or self._features is None:
            return self._extractor.load(blob)
        row = self._rows[blob.clip_id]
        if row.status != Status.OK:
            raise row.problem()
        try:
            return self._extractor.load_states(
                blob.clip_id, self._states(self._features, blob.clip_id)
            )
        except (StoreDamagedError, ValueError) as error:
            raise ClipFailed(
                "its cached states are damaged: see `mer-store verify`, mend them, then --retry-failed"
            ) from error

    def _states(self, features: FeatureSet, clip_id: str) -> NDArray[Any]:
        """Read a clip's frames [T, D], or its pooled layers [L, D]."""
        layers = self._extractor.base_layers
        with self._reading:
            if features.spec.level == "frame":
                dtype = np.uint8 if features.spec.stored_dtype == BYTES else np.float32
                [rows] = features.ragged(layers, [clip_id], dtype)
                return np.ascontiguousarray(rows[:, 0])
            pooled: NDArray[np.float32] = features.read(layers, [clip_id], np.float32)[0]
            return pooled

    def __call__(self, batch: Sequence[Loaded], want: Want) -> list[States | ClipProblem]:
        """Run the extractor."""
        return self._extractor(batch, want)


def from_cache(extractor: Extractor, store: Store, sources: Sequence[Source]) -> Extractor:
    """Return `extractor` as it is, or with a cache before it where it can take cached states."""
    if isinstance(extractor, TakesStates) and extractor.base_spec is not None:
        return FromCache(cast("Taker", extractor), store, sources)
    return extractor


def _facts(path: Path | None) -> tuple[int, int] | None:
    """Return size and modification time of a file, None where it is not here."""
    if path is None:
        return None
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns
