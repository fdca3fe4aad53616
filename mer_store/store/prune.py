"""Pruning: parts that no reader needs are withdrawn, and a while later deleted.

First a part's record goes, so that whoever opens the store from now on does not see it. Its folder stays
where it is for as long as readers may still be at work that opened the store before; a note in
``withdrawn/`` says since when, and keeps a sweep from making the part visible again.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mer_store.store.commit import put_file, writer_name
from mer_store.store.feature_set import FeatureSet
from mer_store.store.layout import Folders, make_folder, sync_folder, writing
from mer_store.store.shared import unseal
from mer_store.store.store import Store
from mer_store.store.strays import QUARANTINE
from mer_store.store.superseded import Superseded
from mer_store.store.sweep import WITHDRAWN
from mer_store.store.verify import folder_bytes

#: Readers that opened the store longer ago than this are taken to be done.
GRACE_S = 3600.0

Why = Literal["superseded", "stale", "withdrawn", "quarantine"]


@dataclass(frozen=True, slots=True)
class Pruned:
    """Something that can go."""

    modality: str
    feature_set: str
    part_id: str
    """Or the name of a folder that is no part's."""
    why: Why
    n_bytes: int
    freed: bool = False
    """Whether its bytes are deleted by now."""
    wait_s: float = 0.0
    """How long readers that are at work may still need it."""
    refused: str | None = None
    """Why it could not go."""


def prune(
    store: Store, *, yes: bool = False, older_than_s: float = GRACE_S, quarantine: bool = False
) -> list[Pruned]:
    """Remove parts whose rows are all served by other parts or were made from bytes that changed since.

    What any reader is told or given stays the same. Bytes are deleted once the part was withdrawn for
    `older_than_s`, so the command is run once more to free them.

    Parameters
    ----------
    store
        The store.
    yes
        Do it; else only tell.
    older_than_s
        Longest time that a reader is at work without opening the store anew.
    quarantine
        Delete what repair moved away, too.

    Returns
    -------
    list
        What went, or would.
    """
    pruned: list[Pruned] = []
    for feature_set in store.feature_sets():
        pruning = _Pruning(feature_set, older_than_s, yes=yes)
        pruned += pruning.superseded()
        pruned += pruning.withdrawn()
        if quarantine:
            pruned += pruning.folders(feature_set.path / QUARANTINE, "quarantine")
    if quarantine:
        pruned += _emptied(store.path / QUARANTINE, "", "", yes=yes)
    return pruned


class _Pruning:
    """Prunes one feature set."""

    def __init__(self, feature_set: FeatureSet, older_than_s: float, *, yes: bool) -> None:
        self._feature_set, self._folders = feature_set, Folders(feature_set.path)
        self._older_than_s, self._yes = older_than_s, yes
        self._notes = feature_set.path / WITHDRAWN
        self._why: dict[str, Why] = {}

    def superseded(self) -> Iterator[Pruned]:
        """Withdraw parts that are not needed."""
        self._feature_set.refresh()
        known = Superseded(self._feature_set)
        for part in known.plan():
            part_id = known.index.parts[part].part_id
            if not known.drop(part):
                continue  # needed after all, since another one could not go
            why: Why = "stale" if known.is_stale(part) else "superseded"
            refused = self._try(self._withdraw, part_id) if self._yes else None
            self._why[part_id] = why
            if refused:
                known.keep(part)
            if refused or not self._yes:
                yield self._pruned(part_id, why, refused=refused)
        self._feature_set.forget()

    def withdrawn(self) -> Iterator[Pruned]:
        """Delete the folders of parts that were withdrawn long enough ago."""
        for note in _entries(self._notes):
            part_id = note.stem
            if _is_there(self._folders.commit(part_id)):
                if self._yes:
                    self._try(note.unlink)  # somebody made this part again
                continue
            wait_s = note.lstat().st_mtime + self._older_than_s - time.time()
            why = self._why.get(part_id, "withdrawn")
            pruned = self._pruned(part_id, why, wait_s=max(wait_s, 0.0))
            if wait_s > 0 or not self._yes:
                yield pruned
                continue
            refused = self._try(self._delete, part_id, note)
            yield replace(pruned, freed=refused is None, refused=refused)

    def folders(self, path: Path, why: Why) -> Iterator[Pruned]:
        """Delete all that lies in a folder."""
        spec = self._feature_set.spec
        return iter(_emptied(path, spec.modality, spec.name, why, yes=self._yes))

    def _pruned(
        self,
        part_id: str,
        why: Why,
        *,
        wait_s: float = 0.0,
        refused: str | None = None,
    ) -> Pruned:
        spec, n_bytes = self._feature_set.spec, folder_bytes(self._folders.part(part_id))
        return Pruned(
            spec.modality, spec.name, part_id, why, n_bytes, wait_s=wait_s, refused=refused
        )

    def _try(self, run: Callable[..., None], *arguments: object) -> str | None:
        """Run; return why it may not be done."""
        with writing(self._feature_set.path):
            try:
                run(*arguments)
            except PermissionError as error:
                where = error.filename or self._feature_set.path
                return f"{where}: belongs to another user, who can prune it"
        return None

    def _withdraw(self, part_id: str) -> None:
        """Take a part's record back; a note of the same text, new, says since when."""
        record = self._folders.commit(part_id)
        note = self._notes / record.name
        make_folder(self._notes)
        note.unlink(missing_ok=True)
        put_file(note, record.read_text(encoding="utf-8"))
        try:
            record.unlink()
        except PermissionError:
            note.unlink()
            raise
        sync_folder(record.parent)

    def _delete(self, part_id: str, note: Path) -> None:
        """Delete a withdrawn part, unless it was committed again meanwhile."""
        place, aside = self._folders.part(part_id), self._folders.tmp / writer_name()
        if _is_there(place):
            unseal(place)
            os.rename(place, aside)  # noqa: PTH104 - the one call that matters
            is_wanted = True
            try:
                is_wanted = _is_there(self._folders.commit(part_id))
            finally:
                if is_wanted:
                    os.rename(aside, place)  # noqa: PTH104 - as above
            if not is_wanted:
                shutil.rmtree(aside)
        note.unlink(missing_ok=True)


def _emptied(
    path: Path, modality: str, name: str, why: Why = "quarantine", *, yes: bool
) -> list[Pruned]:
    found = []
    for entry in _entries(path):
        n_bytes, refused = folder_bytes(entry), None
        if yes:
            try:
                _delete_all(entry)
            except PermissionError as error:
                refused = f"{error.filename}: belongs to another user"
        found.append(
            Pruned(modality, name, entry.name, why, n_bytes, yes and not refused, 0.0, refused)
        )
    return found


def _delete_all(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    else:
        unseal(path)
        shutil.rmtree(path)


def _is_there(path: Path) -> bool:
    """Tell whether something is there; unlike `os.path.lexists`, a disk that cannot say raises."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def _entries(path: Path) -> list[Path]:
    try:
        return sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    except FileNotFoundError:
        return []
