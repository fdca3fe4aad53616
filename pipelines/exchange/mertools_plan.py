"""The plan of an import: which clips of a MERTools folder are to be read, and into which feature set."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mer_store.clips.clip_list import ClipList
from mer_store.clips.rows import id_problem
from mer_store.errors import UsageError
from mer_store.layers import Layer
from mer_store.spec import IMPORTED, Spec
from mer_store.store.feature_set import FeatureSet
from mer_store.store.ledger import Ledger, Status
from mer_store.store.store import Store
from pipelines.exchange.coverage import named
from pipelines.exchange.mertools_clip import ClipFiles, list_clips, needs_float32, usual_width
from pipelines.exchange.mertools_layout import FEATURES, RECIPES, layer_to_store, read_name
from pipelines.exchange.options import ImportOptions

#: Files that say how wide features are.
N_ASKED = 16


@dataclass(frozen=True)
class ImportPlan:
    """What of a folder is to be read."""

    feature_set: FeatureSet
    layer: Layer
    width: int | None
    """D that every clip must have; None where no file has any."""
    clip_ids: list[str]
    """Listed clips that the folder has."""
    files: list[ClipFiles]
    """Of each of them."""
    ledger: Ledger
    """Of each of them."""
    missing: list[str]
    """Listed clips that the folder lacks."""
    extra: list[str]
    """Clips of the folder that the list lacks, or whose names can be no clip's."""

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """[clips]: imported before."""
        known: NDArray[np.bool_] = self.ledger.of_layers([self.layer])[:, 0] != Status.MISSING
        return known

    @cached_property
    def same(self) -> NDArray[np.bool_]:
        """[clips]: imported before, from files of the same size and time: not read again."""
        n_bytes = np.array([files.n_bytes for files in self.files], np.int64)
        mtime_ns = np.array([files.mtime_ns for files in self.files], np.int64)
        facts = (self.ledger.n_bytes == n_bytes) & (self.ledger.mtime_ns == mtime_ns)
        same: NDArray[np.bool_] = self.known & facts
        return same

    def parts(self, size: int) -> Iterator[list[int]]:
        """Yield places in `clip_ids`, at most `size` at a time: clips never seen, then others."""
        for rows in (np.flatnonzero(~self.known), np.flatnonzero(self.known & ~self.same)):
            for start in range(0, len(rows), size):
                yield rows[start : start + size].tolist()


def make_plan(
    source: Path, store: Store, clip_list: ClipList | None, options: ImportOptions
) -> ImportPlan:
    """Compare a folder with a clip list, and both with what the store has.

    Raises
    ------
    UsageError
        There is no such folder, or what its features are cannot be told.
    """
    folder = _folder(source, options.name)
    if options.modality is None:
        raise UsageError(f"{folder}: give --modality: nothing in the folder says it")
    found = list_clips(folder)
    odd = [name for name in found if id_problem(name)]
    listed = (
        [name for name in sorted(found) if not id_problem(name)]
        if clip_list is None
        else [clip.clip_id for clip in clip_list.clips]
    )
    clip_ids = [clip_id for clip_id in listed if clip_id in found]
    if not clip_ids:
        raise UsageError(
            f"{folder}: expected <clip>.npy or <clip>/*.npy of the {len(listed)} clips listed; found "
            f"{len(found)} clips, none of them listed: {named(sorted(found)) or 'no .npy file'}"
        )
    files = [found[clip_id] for clip_id in clip_ids]
    spec, layer = _spec(folder.name, files, options)
    feature_set = store.ensure(spec)
    return ImportPlan(
        feature_set, layer, _width(feature_set, layer, files), clip_ids, files,
        ledger=feature_set.ledger(clip_ids),
        missing=[clip_id for clip_id in listed if clip_id not in found],
        extra=sorted(found.keys() - set(listed) if clip_list is not None else odd),
    )  # fmt: skip


def _folder(source: Path, name: str | None) -> Path:
    above = source / FEATURES
    if name and not {"/", "\0"} & set(name) and name not in (".", ".."):
        for folder in (above / name, source / name):
            if folder.is_dir():
                return folder
    there = sorted(path.name for path in above.iterdir()) if above.is_dir() else []
    asked = f"no folder {name!r}" if name else "which folder? Give --name"
    raise UsageError(f"{above}: {asked}; there is {', '.join(there) or 'nothing'}")


def _spec(name: str, files: list[ClipFiles], options: ImportOptions) -> tuple[Spec, Layer]:
    model, level = read_name(name, options.level)
    model, recipe = options.model or model, options.recipe or RECIPES[0]
    dtype = options.stored_dtype or ("float32" if any(map(needs_float32, files)) else "float16")
    layer = layer_to_store(options.modality or "", recipe, model, options.layers)
    spec = Spec(
        modality=options.modality or "",
        level=level,
        model=model,
        weights=IMPORTED,
        recipe=recipe,
        preprocessing={"imported": "mertools", "folder": name},
        pooling="mean" if level == "utterance" else "none",
        compute_dtype="unknown",
        stored_dtype=dtype,
        trained=True,
    )
    return spec, layer


def _width(feature_set: FeatureSet, layer: Layer, files: list[ClipFiles]) -> int | None:
    for part in feature_set.index.parts:
        if str(layer) in part.arrays:
            return part.arrays[str(layer)].shape[1]
    return usual_width(islice(files, N_ASKED))
