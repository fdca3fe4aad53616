"""A store: a folder of feature sets."""

import json
import os
import reprlib
import stat
from collections.abc import Sequence
from pathlib import Path

from mer_store.errors import StoreDamagedError, UsageError
from mer_store.layers import Layer, describe_layers
from mer_store.spec import BYTES, Spec
from mer_store.store.commit import put_file
from mer_store.store.feature_set import FeatureSet
from mer_store.store.layout import (
    CACHE_FOLDER,
    FORMAT,
    MAX_SMALL_BYTES,
    SPEC_FILE,
    STORE_FILE,
    Folders,
    check_folder,
    make_folder,
    reading,
    writing,
)
from mer_store.store.plain_file import read_small
from mer_store.store.shared import is_shared, share
from mer_store.store.sweep import Swept, sweep, sweep_files
from mer_store.strict_json import parse


def _local_folder(path: str | os.PathLike[str]) -> Path:
    if "://" in str(path):
        raise UsageError(
            f"{path}: features are read and written in a local store; "
            f"run `mer-store pull {path}` first, or push to it later"
        )
    if not str(path):
        raise UsageError("the store's folder: expected a path, got an empty text")
    return Path(path)


class Store:
    """A folder of feature sets.

    Examples
    --------
    >>> store = Store.open("store")  # doctest: +SKIP
    >>> audio = store.features("audio", level="utterance")  # doctest: +SKIP
    >>> x = audio.read(layers=[18])  # doctest: +SKIP
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    @property
    def where(self) -> str:
        """What to call it: its folder, or the URL it is read from."""
        return str(self.path)

    @classmethod
    def create(cls, path: str | os.PathLike[str], group: str | None = None) -> "Store":
        """Make a store, or open the one that is there, which may then be read-only.

        Parameters
        ----------
        path
            Its folder.
        group
            Name or number of a group that shares it: whoever is in it may add parts, nobody changes or
            deletes another's. None leaves the folder's mode as it is.

        Raises
        ------
        UsageError
            No folder can be made there, or see `open`.
        """
        folder = _local_folder(path)
        with reading(folder):
            there = (folder / STORE_FILE).is_file()
        if not there:
            try:
                with writing(folder):
                    folder.mkdir(parents=True, exist_ok=True)
                    if group is not None:
                        share(folder, group)
                    make_folder(folder / "features")
                    put_file(folder / STORE_FILE, json.dumps({"format": FORMAT}) + "\n")
            except OSError as error:
                raise UsageError(
                    f"{folder}: no store can be made there: {error.strerror}; choose another folder"
                ) from error
        elif group is not None and not is_shared(folder):
            raise UsageError(
                f"{folder}: there already, and not made for a group; make another with --group and "
                f"`mer-store push` this one into it"
            )
        return cls.open(folder)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Store":
        """Open a store.

        Raises
        ------
        UsageError
            There is no store, it may not be read, or a newer version of mer-store wrote it.
        """
        folder = _local_folder(path)
        try:
            with reading(folder):
                text = read_small(folder / STORE_FILE, MAX_SMALL_BYTES)
                check_folder(folder / "features")
                _refuse_links(folder, ("features", CACHE_FOLDER, "quarantine"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UsageError(
                f"{folder}: not a store; run `mer-store init {folder}` to make one"
            ) from error
        try:
            version = parse(text)["format"]
        except (ValueError, KeyError, TypeError) as error:
            raise StoreDamagedError(
                f"{folder / STORE_FILE}: expected {{'format': {FORMAT}}}"
            ) from error
        if type(version) is not int or version != FORMAT:
            shown = reprlib.repr(version)
            raise UsageError(f"{folder}: format {shown}; this mer-store reads format {FORMAT}")
        return cls(folder)

    def feature_sets(self) -> list[FeatureSet]:
        """Return every feature set, sorted by modality and name."""
        features = self.path / "features"
        found = []
        with reading(features):
            for modality in _folders(features):
                found += [self._feature_set(path) for path in _folders(modality)]
        return [feature_set for feature_set in found if feature_set is not None]

    def _feature_set(self, path: Path) -> FeatureSet | None:
        """Open the feature set in a folder; None where it was never finished and holds nothing."""
        folders = Folders(path)
        for folder in (folders.parts, folders.commits, folders.tmp):
            check_folder(folder)
        _refuse_links(path, [entry.name for entry in _entries(path)])
        try:
            text = read_small(path / SPEC_FILE, MAX_SMALL_BYTES)
        except FileNotFoundError as error:
            if any(name.suffix == ".json" for name in _entries(folders.commits)):
                raise StoreDamagedError(
                    f"{path / SPEC_FILE}: missing, yet parts are committed beside it; copy it from where the "
                    f"parts came from"
                ) from error
            return None
        spec = Spec.from_json(text, where=str(path / SPEC_FILE))
        if (path.parent.name, path.name) != (spec.modality, spec.name):
            raise StoreDamagedError(f"{path}: its spec.json is of {spec.modality}/{spec.name}")
        return FeatureSet(path, spec)

    def ensure(self, spec: Spec) -> FeatureSet:
        """Return the feature set of `spec`, made where it is not there."""
        path = self.path / "features" / spec.modality / spec.name
        folders = Folders(path)
        with writing(path):
            for folder in (path.parent, path, folders.parts, folders.commits, folders.tmp):
                check_folder(folder)
            folders.make()
            put_file(path / SPEC_FILE, spec.to_json() + "\n")
        with reading(path):
            feature_set = self._feature_set(path)
        if feature_set is None or feature_set.spec.to_json() != spec.to_json():
            raise StoreDamagedError(f"{path / SPEC_FILE}: expected {spec.to_json()}")
        return feature_set

    def features(
        self,
        modality: str,
        level: str | None = None,
        model: str | None = None,
        recipe: str | None = None,
        fingerprint: str | None = None,
        layers: Sequence[Layer] | None = None,
    ) -> FeatureSet:
        """Return the one feature set that fits.

        Parameters
        ----------
        modality, level, model, recipe
            As in the spec; None fits any.
        fingerprint
            Of the spec, or its first digits.
        layers
            Layers it must hold for some clip.

        Raises
        ------
        UsageError
            None fits, or several do; the message lists what there is.
        """
        wanted = {"modality": modality, "level": level, "model": model, "recipe": recipe}
        wanted = {name: value for name, value in wanted.items() if value is not None}
        every = self.feature_sets()
        fitting = [
            feature_set
            for feature_set in every
            if all(getattr(feature_set.spec, name) == value for name, value in wanted.items())
            and (feature_set.spec.stored_dtype != BYTES or model or fingerprint)  # no features
            and feature_set.spec.fingerprint.startswith(fingerprint or "")
            and set(layers or ()) <= set(feature_set.layers if layers else ())
        ]
        if len(fitting) == 1:
            return fitting[0]
        asked = wanted | ({"fingerprint": fingerprint} if fingerprint else {})
        asked |= {"layers": describe_layers(layers)} if layers else {}
        described = ", ".join(f"{name}={value}" for name, value in asked.items())
        verdict = "several feature sets fit" if fitting else "no feature set fits"
        listed = "".join(f"\n  {_describe(feature_set)}" for feature_set in fitting or every)
        listed = listed or " nothing yet; run `mer-store extract`"
        raise UsageError(f"{self.where}: {verdict} {described}. There is:{listed}")

    def sweep(self) -> Swept:
        """Remove what dead writers left behind and finish what they had all but committed."""
        n_removed = sum(sweep_files(path) for path in (self.path, self.path / CACHE_FOLDER))
        return sum((sweep(one.path) for one in self.feature_sets()), Swept(n_removed))


def _refuse_links(path: Path, names: Sequence[str]) -> None:
    """Refuse links: what is written or moved there would leave the store."""
    for name in names:
        if (path / name).is_symlink():
            check_folder(path / name)


def _folders(path: Path) -> list[Path]:
    # Not is_dir(): newer Pythons answer False where permission is denied.
    modes = {
        entry: entry.lstat().st_mode for entry in _entries(path) if not entry.name.startswith(".")
    }
    for entry in (entry for entry, mode in modes.items() if stat.S_ISLNK(mode)):
        check_folder(entry)
    return [entry for entry, mode in modes.items() if stat.S_ISDIR(mode)]


def _entries(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir())
    except FileNotFoundError:
        return []


def _describe(feature_set: FeatureSet) -> str:
    spec = feature_set.spec
    note = "" if spec.trained else ", random weights"
    layers = describe_layers(feature_set.layers)
    return f"{spec.modality}/{spec.name}: recipe {spec.recipe}, layers {layers}{note}"
