"""The writer of a part: clips come one by one; the part appears whole or not at all."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from mer_store.errors import UsageError, shown
from mer_store.layers import Layer, describe_layers, sort_layers
from mer_store.store.commit import publish, stage
from mer_store.store.finite import fits
from mer_store.store.layout import Folders, writing
from mer_store.store.ledger_row import (
    MAX_REASON_CHARS,
    STATUSES,
    LedgerRow,
    is_valid_clip_id,
    is_valid_digest,
)
from mer_store.store.part_files import RESERVED, PartFiles
from mer_store.store.plain_file import is_part_name
from mer_store.store.record import CommitRecord, part_id
from mer_store.store.record_rules import MAX_CLIPS

if TYPE_CHECKING:
    from mer_store.store.feature_set import FeatureSet

#: Clips of one row that are copied at once: enough to hide what a call costs, few enough to stay in cache.
_TOGETHER = 64


@dataclass(frozen=True, slots=True)
class ClipRows:
    """What one clip gives a part."""

    clip_id: str
    status: str
    """``ok``, ``failed`` or ``empty``."""
    reason: str | None = None
    """Why there are no rows."""
    digest: str | None = None
    """Identity of the bytes that were extracted, e.g. ``sha256:…``; None where they could not be read."""
    n_bytes: int | None = None
    mtime_ns: int | None = None
    layers: Mapping[Layer, NDArray[Any]] = field(default_factory=dict)
    """[T, D] floats per layer, the same T for all; T is 1 at utterance level. Looked at only where ``ok``."""
    tables: Mapping[str, Mapping[str, NDArray[Any]]] = field(default_factory=dict)
    """Side tables: columns [n] or [n, k] of equal length, the same columns and types for every clip."""


class PartWriter:
    """Writes one part. A context manager: leaving it without `commit` drops what was written.

    Parameters
    ----------
    feature_set
        Where the part belongs.
    layers
        The layers every ``ok`` clip will bring.
    attempt
        0 for clips never tried; else 1 above the highest attempt the ledger has for any of them.
    versions
        Versions of what decided or stored the numbers, for the record.

    Examples
    --------
    >>> with PartWriter(audio, layers=(18,)) as writer:  # doctest: +SKIP
    ...     writer.add(ClipRows("clip1", "ok", digest="sha256:…", layers={18: rows}))
    ...     writer.commit()
    """

    def __init__(
        self,
        feature_set: "FeatureSet",
        layers: Sequence[Layer],
        attempt: int = 0,
        versions: Mapping[str, str] | None = None,
    ) -> None:
        if not layers:
            raise UsageError(f"{feature_set.name}: a part needs at least one layer")
        if bad := [name for name in map(str, layers) if name in RESERVED or not is_part_name(name)]:
            raise UsageError(f"{feature_set.name}: layers {bad}: expected numbers or plain names")
        self.spec = feature_set.spec
        self.layers = sort_layers(layers)
        self.attempt = attempt
        self._layer_names = frozenset(self.layers)
        self._stored_dtype = np.dtype(self.spec.stored_dtype)
        self._feature_set = feature_set
        self._folders = Folders(feature_set.path)
        self._versions = dict(versions or {})
        self._ledger: dict[str, LedgerRow] = {}
        with writing(feature_set.path):
            self._staged = stage(self._folders)
        self._one_row = self.spec.level == "utterance"
        self._files: PartFiles | None = PartFiles(
            self._staged, self.layers, self.spec.stored_dtype, one_row=self._one_row
        )

    @property
    def n_clips(self) -> int:
        """Clips added so far, whatever became of them."""
        return len(self._ledger)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.drop()

    def add(self, clip: ClipRows) -> LedgerRow:
        """Add a clip and return its row of the ledger.

        A clip with a NaN or an infinity in any layer becomes ``failed``: no rows, and the others go on.

        Raises
        ------
        UsageError
            The clip was added before, lacks a layer, or its shapes do not fit the others'.
        StoreFullError
            The disk is full; the part is dropped.
        """
        if self._files is None:
            raise UsageError(f"{self._feature_set.name}: this part is committed or dropped")
        self._check(clip)
        if clip.status != "ok":
            return self._enter_without_rows(clip)
        rows = [np.asarray(clip.layers[layer]) for layer in self.layers]
        wide: list[Layer] = []
        try:
            staged = self._files.stage(clip.clip_id, rows)
            if staged is None or not fits(staged, self._stored_dtype):
                each = {
                    layer: fits(array, self._stored_dtype)
                    for layer, array in zip(self.layers, rows, strict=True)
                }
                if None in each.values():
                    named = describe_layers(layer for layer, fit in each.items() if fit is None)
                    return self._enter(clip, "failed", f"non-finite values in layer {named}", 0)
                wide = [layer for layer, fit in each.items() if not fit]
            self._files.append(clip.clip_id, rows, wide, clip.tables, staged=staged is not None)
        except UsageError:
            raise
        except BaseException:
            self.drop()  # some layers may have the clip's rows and others not
            with writing(self._folders.path):
                raise
        return self._enter(clip, "ok", None, len(rows[0]))

    def add_all(self, clips: Sequence[ClipRows]) -> list[LedgerRow]:
        """Add clips as `add` does, one after the other; those of one row each in a third of the time.

        Raises
        ------
        UsageError, StoreFullError
            As `add`; of the clips before the one that it speaks of some may be added.
        """
        entered: list[LedgerRow] = []
        while len(entered) < len(clips):
            room = self._files.room if self._files else 0
            some = clips[len(entered) : len(entered) + max(min(room, _TOGETHER), 1)]
            entered += self._add_together(some) or [self.add(clip) for clip in some]
        return entered

    def _add_together(self, clips: Sequence[ClipRows]) -> list[LedgerRow] | None:
        """Add clips by one copy; None, and none is added, where one of them needs a closer look."""
        if not self._one_row or self._files is None:
            return None
        ok = [clip for clip in clips if clip.status == "ok"]
        if len(ok) < 2 or any(clip.tables for clip in ok):
            return None
        if len({clip.clip_id for clip in clips}) < len(clips):
            return None
        for clip in clips:
            self._check(clip)
        rows = [np.ascontiguousarray(clip.layers[layer]) for clip in ok for layer in self.layers]
        staged = self._files.stage_clips(rows)
        if staged is None or not fits(staged, self._stored_dtype):
            return None
        self._files.take_clips(len(ok))
        return [
            self._enter(clip, "ok", None, 1)
            if clip.status == "ok"
            else self._enter_without_rows(clip)
            for clip in clips
        ]

    def commit(self) -> CommitRecord:
        """Make the part visible, with the clips that were added.

        Returns
        -------
        CommitRecord
            The visible record: another writer's, where it did the same work first.

        Raises
        ------
        UsageError
            No clip was added.
        StoreFullError
            The disk is full; nothing committed is touched.
        """
        if self._files is None or not self._ledger:
            raise UsageError(f"{self._feature_set.name}: nothing to commit: no clip was added")
        ledger = tuple(self._ledger.values())
        name = part_id(self.spec.fingerprint, self._ledger, self.layers, self.attempt)
        try:
            with writing(self._folders.path):
                record = self._files.finish(
                    self.spec.fingerprint, name, self.attempt, ledger, self._versions
                )
                record = publish(self._folders, self._staged, record)
        finally:
            self.drop()
        self._feature_set.forget()
        return record

    def drop(self) -> None:
        """Forget what was written and not committed."""
        if self._files is not None:
            self._files.abandon()
            self._files = None
        shutil.rmtree(self._staged, ignore_errors=True)

    def _check(self, clip: ClipRows) -> None:
        if clip.clip_id in self._ledger:
            raise UsageError(f"clip {clip.clip_id}: added twice to one part")
        if self.n_clips >= MAX_CLIPS:
            raise UsageError(f"clip {clip.clip_id}: a part holds at most {MAX_CLIPS} clips")
        if not is_valid_clip_id(clip.clip_id):
            raise UsageError(f"clip id {clip.clip_id!r}: expected 1 to 255 bytes of printable text")
        if clip.status not in STATUSES:
            raise UsageError(
                f"clip {clip.clip_id}: status {clip.status!r}: expected one of {STATUSES}"
            )
        if clip.digest is not None and not is_valid_digest(clip.digest):
            raise UsageError(
                f"clip {clip.clip_id}: digest {clip.digest!r}: expected 1 to 128 characters"
            )
        if clip.status == "ok" and clip.layers.keys() != self._layer_names:
            raise UsageError(
                f"clip {clip.clip_id}: expected the layers {describe_layers(self.layers)}, "
                f"got {describe_layers(clip.layers)}"
            )

    def _enter_without_rows(self, clip: ClipRows) -> LedgerRow:
        return self._enter(clip, clip.status, clip.reason or "no reason was given", 0)

    def _enter(self, clip: ClipRows, status: str, reason: str | None, n_rows: int) -> LedgerRow:
        if reason is not None:
            # Errors may quote file names that are no valid text.
            reason = " ".join(reason.encode("utf-8", "backslashreplace").decode().split())
            reason = shown(reason)[:MAX_REASON_CHARS]
        row = LedgerRow(
            clip.clip_id, status, reason, n_rows, clip.digest, clip.n_bytes, clip.mtime_ns
        )
        self._ledger[clip.clip_id] = row
        return row
