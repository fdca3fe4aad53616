"""What lies in a store and should not: names that nobody gives, feature sets that cannot be opened."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mer_store.errors import MerStoreError
from mer_store.store.feature_set import FeatureSet
from mer_store.store.finding import Finding, Scope
from mer_store.store.layout import PART_ID, SPEC_FILE, Folders, reading
from mer_store.store.store import Store
from mer_store.store.sweep import WITHDRAWN

#: Beside a feature set's parts: what repair moved away.
QUARANTINE = "quarantine"
_KNOWN = frozenset({SPEC_FILE, "parts", "commits", "tmp", QUARANTINE, WITHDRAWN})
_STRAY = "nothing of a store has this name"


@dataclass(frozen=True)
class FeatureSetFolder:
    """A feature set and where it lies."""

    feature_set: FeatureSet
    modality: str
    name: str

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.feature_set.path

    @classmethod
    def of(cls, feature_set: FeatureSet) -> "FeatureSetFolder":
        """Take the names of a feature set that is open."""
        return cls(feature_set, feature_set.path.parent.name, feature_set.path.name)


def feature_set_folders(store: Store) -> tuple[list[FeatureSetFolder], list[Finding]]:
    """Open every feature set that can be opened; report the others, and what is no feature set."""
    opened: list[FeatureSetFolder] = []
    found: list[Finding] = []
    features = store.path / "features"
    for modality, is_folder in _entries(features):
        if not is_folder:
            found.append(_outside(f"features/{modality}"))
            continue
        for name, is_set in _entries(features / modality):
            if not is_set:
                found.append(_outside(f"features/{modality}/{name}"))
                continue
            with reading(features):
                feature_set = _opened(store, features / modality / name)
            if isinstance(feature_set, str):
                found.append(
                    Finding(name, "", SPEC_FILE, feature_set, (), (), "feature set", modality)
                )
            elif feature_set is not None:
                opened.append(FeatureSetFolder(feature_set, modality, name))
    return opened, found


def _opened(store: Store, path: Path) -> FeatureSet | str | None:
    """Open the feature set in a folder, or say why it cannot be."""
    try:
        return store._feature_set(path)
    except MerStoreError as error:
        return str(error)


def strays(path: Path, name: str, modality: str) -> Iterator[Finding]:
    """Yield what lies in a feature set's folder, among its parts or records, and is none of them."""
    folders = Folders(path)
    expected = {entry: entry in _KNOWN for entry, _ in _entries(path)}
    for folder, suffix in ((folders.parts, ""), (folders.commits, ".json")):
        for entry, _ in _entries(folder):
            fits = entry.endswith(suffix) and PART_ID.fullmatch(entry.removesuffix(suffix))
            expected[f"{folder.name}/{entry}"] = bool(fits)
    for entry, is_known in expected.items():
        if not is_known:
            yield Finding(name, "", entry, _STRAY, (), (), "stray", modality)


def _outside(path: str, scope: Scope = "stray") -> Finding:
    return Finding("", "", path, _STRAY, (), (), scope)


def _entries(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield name and whether it is a plain folder; names with a dot in front are temporary files."""
    with reading(path):
        try:
            names = sorted(os.listdir(path))  # noqa: PTH208 - names are what is wanted
        except FileNotFoundError:
            return
        for name in names:
            if not name.startswith("."):
                yield name, stat.S_ISDIR((path / name).lstat().st_mode)


def store_path(store: Store, finding: Finding) -> Path:
    """Return the place that a finding speaks of."""
    if not finding.feature_set:
        return store.path / finding.path
    folder = store.path / "features" / finding.modality / finding.feature_set
    return folder if finding.scope == "feature set" else folder / finding.path
