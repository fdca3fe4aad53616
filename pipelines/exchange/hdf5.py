"""HDF5: feature sets in one file that any HDF5 reader opens, and back."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mer_store.clips.clip_list import ClipList
from mer_store.errors import UsageError
from mer_store.layers import Layer
from mer_store.spec import MODALITIES, Spec
from mer_store.store.feature_set import FeatureSet
from mer_store.store.ledger import Ledger, Status
from mer_store.store.store import Store
from mer_store.store.writer import PartWriter
from pipelines.exchange.chosen import (
    Chosen,
    blocks,
    choose_layers,
    choose_sets,
    refuse_options,
    say_chosen,
)
from pipelines.exchange.coverage import named
from pipelines.exchange.hdf5_check import CheckedFile
from pipelines.exchange.hdf5_columns import read_spec
from pipelines.exchange.hdf5_read import FileSet
from pipelines.exchange.hdf5_write import FORMAT, FORMAT_ATTRIBUTE, LIBVER, write_set
from pipelines.exchange.options import ExportOptions, ImportOptions
from pipelines.exchange.whole_file import refuse_taken, whole_file
from pipelines.lines import line_options
from pipelines.versions import versions_of


def export_hdf5(store: Store, clip_list: ClipList | None, to: Path, options: ExportOptions) -> int:
    """Write all feature sets that fit into one file, a group each, with what became of every clip.

    Returns
    -------
    int
        1 where a listed clip was never extracted, else 0.

    Raises
    ------
    UsageError
        No feature set fits, a layer is not there, or there is a file at `to`.
    StoreDamagedError
        Bytes of the store are missing or wrong. No file is left.
    """
    refuse_options(options, "hdf5")
    refuse_taken(to)
    chosen = [
        Chosen.of(feature_set, choose_layers(feature_set, options.layers), clip_list)
        for feature_set in choose_sets(store, options)
    ]
    n_rows = sum(int(one.lengths() @ one.ledger.has(one.layers).sum(axis=1)) for one in chosen)
    with (
        whole_file(to) as temporary,
        h5py.File(temporary, "w", libver=LIBVER) as file,
        tqdm(total=n_rows, desc=to.name, unit=" rows", **line_options(sys.stderr)) as bar,
    ):
        file.attrs[FORMAT_ATTRIBUTE] = FORMAT
        for one in chosen:
            write_set(file, one, bar.update)
    for one in chosen:
        say_chosen(one)
    return int(any(one.n_missing for one in chosen))


def import_hdf5(
    source: Path, store: Store, clip_list: ClipList | None, options: ImportOptions
) -> int:
    """Read feature sets of a file that `export_hdf5` wrote: same specs, values, statuses and digests.

    A clip of the store is never changed: one that was extracted from other media is left as it is.

    Returns
    -------
    int
        1 where a listed clip is not in the file or one was left as it is, else 0.

    Raises
    ------
    UsageError
        It is no such file, or holds no feature set that fits.
    StoreDamagedError
        The file is damaged. Parts that were committed before stay.
    """
    with CheckedFile.open(source) as file:
        if file.attribute("", FORMAT_ATTRIBUTE) != FORMAT:
            raise UsageError(f"{source}: not of format {FORMAT}, which this mer-store reads")
        fitting = [(group, spec) for group, spec in _specs(file) if _fits(spec, group, options)]
        if not fitting:
            there = "".join(f"\n  {group}" for group, _ in _specs(file)) or " none"
            raise UsageError(f"{source}: no feature set fits. There is:{there}")
        store.sweep()
        wanted = {clip.clip_id for clip in clip_list.clips} if clip_list is not None else None
        found = [FileSet.read(file, group, spec, options.layers) for group, spec in fitting]
        return max([_take(one, store, wanted, options.part_clips) for one in found])


def _specs(file: CheckedFile) -> Iterator[tuple[str, Spec]]:
    for modality in file.members(""):
        if modality not in MODALITIES:
            raise file.damage(modality, f"expected groups named {', '.join(MODALITIES)}")
        for name in file.members(modality):
            yield f"{modality}/{name}", read_spec(file, f"{modality}/{name}")


def _fits(spec: Spec, group: str, options: ImportOptions) -> bool:
    asked = {
        name: value
        for name in ("modality", "level", "model", "recipe", "stored_dtype")
        if (value := getattr(options, name)) is not None
    }
    named_so = options.name in (None, group, spec.name)
    return named_so and all(getattr(spec, name) == value for name, value in asked.items())


@dataclass(frozen=True)
class Work:
    """What a file has and the store lacks."""

    groups: list[tuple[tuple[Layer, ...], int, NDArray[np.intp]]]
    """Layers, attempt and clips of parts to be written."""
    kept: list[str]
    """Clips that the store has from other media."""


def _take(found: FileSet, store: Store, wanted: set[str] | None, part_clips: int) -> int:
    """Write the parts that the store lacks of one feature set; return the exit code."""
    feature_set = store.ensure(found.spec)
    listed = np.array([wanted is None or clip_id in wanted for clip_id in found.clip_ids], bool)
    work = _work(found, feature_set.ledger(found.clip_ids), listed)
    n_clips = len({clip for _, _, clips in work.groups for clip in clips.tolist()})
    with tqdm(
        total=n_clips, desc=found.group, unit=" clips", disable=not n_clips,
        **line_options(sys.stderr),
    ) as bar:  # fmt: skip
        for layers, attempt, clips in work.groups:
            for start in range(0, len(clips), part_clips):
                part = clips[start : start + part_clips]
                _write_part(found, feature_set, layers, attempt, part)
                bar.update(len(part))
    n_lacking = len(wanted.difference(found.clip_ids)) if wanted is not None else 0
    _say(f"{found.group}: {n_clips} clips taken, {int(listed.sum()) - n_clips} unchanged")
    if work.kept:
        _say(f"  left as they are: the store has them from other media: {named(work.kept)}")
    if n_lacking:
        _say(f"  {n_lacking} listed clips are not in the file")
    return int(bool(work.kept or n_lacking))


def _work(found: FileSet, ledger: Ledger, listed: NDArray[np.bool_]) -> Work:
    """Group what is to be written: clips of a part lack the same layers and have the same tables."""
    here = ledger.of_layers(found.layers)
    digests = np.array([digest or "" for digest in found.digests])
    others = np.array([digest or "" for digest in ledger.digest.tolist()])
    other_media = listed & (ledger.status == Status.OK) & (digests != others)
    there = found.layer_status
    lacks = np.where(there == Status.OK, here != Status.OK, (there > 0) & (here == Status.MISSING))
    lacks &= (listed & ~other_media)[:, np.newaxis]
    has = np.array([table.has for table in found.tables.values()], bool).T.reshape(len(listed), -1)
    ok = np.flatnonzero((there == Status.OK).any(axis=1))
    if len(ok):  # clips without rows go with any others
        has[(there != Status.OK).all(axis=1)] = has[ok[0]]
    keys, rows = [], []
    for status in (Status.OK, Status.EMPTY, Status.FAILED):
        mine = lacks & (there == status)
        clips = np.flatnonzero(mine.any(axis=1))
        keys.append(np.column_stack([mine[clips], has[clips], ledger.attempt[clips] + 1]))
        rows.append(clips)
    distinct, group = np.unique(np.concatenate(keys), axis=0, return_inverse=True)
    groups = []
    for number, key in enumerate(distinct):
        layers = tuple(found.layers[n] for n in np.flatnonzero(key[: len(found.layers)]).tolist())
        mine = np.sort(np.concatenate(rows)[group.reshape(-1) == number])
        groups.append((layers, int(key[-1]), mine))
    kept = [found.clip_ids[row] for row in np.flatnonzero(other_media).tolist()]
    return Work(groups, kept)


def _write_part(
    found: FileSet,
    feature_set: FeatureSet,
    layers: tuple[Layer, ...],
    attempt: int,
    clips: NDArray[np.intp],
) -> None:
    chosen = np.zeros(len(found.clip_ids), bool)
    chosen[clips] = True
    column = found.layers.index(layers[0])
    versions = versions_of("mer-store", "numpy", "zarr", "h5py")
    with PartWriter(feature_set, layers, attempt, versions) as writer:
        for run in blocks(found.offsets, chosen, found.row_bytes):
            statuses = [Status(n).name.lower() for n in found.layer_status[run, column].tolist()]
            writer.add_all(found.clips(run, layers, statuses))
        writer.commit()


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
