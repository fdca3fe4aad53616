"""Derived feature sets: features computed from stored ones, clip by clip, and stored beside them."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mer_store.errors import MerStoreError, UsageError
from mer_store.layers import Layer, describe_layers
from mer_store.spec import Spec
from mer_store.store.feature_set import FeatureSet
from mer_store.store.ledger import Ledger, Status
from mer_store.store.store import Store
from mer_store.store.writer import ClipRows, PartWriter
from pipelines.lines import line_options
from pipelines.versions import versions_of

Compute = Callable[[NDArray[Any]], Mapping[Layer, NDArray[Any]]]
"""From rows [n, L, D] of the base's layers to [n, D'] for each derived layer."""
Rows = NDArray[np.int64]
Statuses = NDArray[np.uint8]

PART_CLIPS = 16384
VERSIONED = ("mer-store", "numpy", "torch", "zarr")


@dataclass(frozen=True)
class Derivation:
    """How one feature set is computed from another, both at utterance level."""

    base: FeatureSet
    reads: tuple[Layer, ...]
    """Layers of the base that are read, in the order `compute` wants them."""
    spec: Spec
    """Of what is derived. It must name the base and the digest of what computes: they decide its numbers."""
    layers: tuple[Layer, ...]
    """Layers that `compute` gives."""
    compute: Compute

    def __post_init__(self) -> None:
        """Refuse what has more than one row a clip."""
        if {self.base.spec.level, self.spec.level} != {"utterance"}:
            raise UsageError(
                f"{self.base.name}: expected features at utterance level to derive others from, "
                f"got {self.base.spec.level} to {self.spec.level}"
            )


def write_derived(
    store: Store,
    derivation: Derivation,
    clip_ids: Sequence[str] | None = None,
    part_clips: int = PART_CLIPS,
) -> FeatureSet:
    """Write what a derived feature set lacks; where it lacks nothing, nothing is written.

    A clip is derived anew once its media changed in the base. Clips that failed in the base, or are empty by
    nature, are carried over with their reasons. Clips that lack some of the layers read are left for later.

    Parameters
    ----------
    clip_ids
        Which clips; None is every clip the base speaks of.
    part_clips
        Clips that are read, computed and committed at a time: the memory that is needed.

    Returns
    -------
    FeatureSet
        What was derived.

    Raises
    ------
    MerStoreError
        `compute` gave a NaN or an infinity: nothing of that part is stored.
    """
    base = derivation.base
    wanted = [name for name, _, _ in base.outcomes()] if clip_ids is None else list(clip_ids)
    source = base.ledger(wanted)
    target = store.ensure(derivation.spec)
    ledger = target.ledger(wanted)
    status = _status_of(source, derivation.reads)
    rows = np.flatnonzero(_differ(source, status, ledger, derivation.layers))
    bar = tqdm(
        total=len(rows), desc=f"{derivation.spec.recipe} features", unit=" clips",
        disable=not len(rows), leave=False, **line_options(sys.stderr),
    )  # fmt: skip
    with bar:
        for start in range(0, len(rows), part_clips):
            some = rows[start : start + part_clips]
            _write_part(target, derivation, source, status, some, int(ledger.attempt[some].max()))
            bar.update(len(some))
    return target


def _status_of(ledger: Ledger, layers: Sequence[Layer]) -> Statuses:
    """Return [clips] of `Status`: ok where all the layers are, else the worst that is known of any."""
    each = ledger.of_layers(layers)
    ok = (each == Status.OK).all(axis=1)
    worst = np.where(each == Status.OK, Status.MISSING, each).max(axis=1, initial=Status.MISSING)
    statuses: Statuses = np.where(ok, Status.OK, worst).astype(np.uint8)
    return statuses


def _differ(
    source: Ledger, status: Statuses, ledger: Ledger, layers: Sequence[Layer]
) -> NDArray[np.bool_]:
    """Return [clips]: what became of the clip in the base is not what the derived set says of it."""
    stale = np.array(source.digest != ledger.digest, bool)
    unlike = (status != _status_of(ledger, layers)) | stale
    differ: NDArray[np.bool_] = unlike & (status != Status.MISSING)
    return differ


def _write_part(
    target: FeatureSet, derivation: Derivation, source: Ledger, status: Statuses, rows: Rows,
    last_attempt: int,
) -> None:  # fmt: skip
    ok = rows[status[rows] == Status.OK]
    arrays = _compute(derivation, [source.clip_ids[row] for row in ok.tolist()])
    with PartWriter(target, derivation.layers, last_attempt + 1, versions_of(*VERSIONED)) as writer:
        writer.add_all(list(_clips(source, status, rows, derivation, arrays)))
        writer.commit()


def _compute(derivation: Derivation, clip_ids: list[str]) -> Mapping[Layer, NDArray[Any]]:
    if not clip_ids:
        return {}
    arrays = derivation.compute(derivation.base.read(derivation.reads, clip_ids))
    for layer in derivation.layers:
        finite = np.isfinite(arrays[layer]).all(axis=1)
        if not finite.all():
            raise MerStoreError(
                f"{derivation.spec.name}: layer {layer} of clip {clip_ids[int(finite.argmin())]} came out as "
                f"NaN or infinity ({int((~finite).sum())} clips in all); nothing of these "
                f"{len(clip_ids)} clips was stored. Train again with a lower lr"
            )
    return arrays


def _clips(
    source: Ledger, status: Statuses, rows: Rows, derivation: Derivation,
    arrays: Mapping[Layer, NDArray[Any]],
) -> Iterator[ClipRows]:  # fmt: skip
    """Yield what each clip gives the part; rows of `arrays` belong to the clips that are ok, in order."""
    n_computed = 0
    for row in rows.tolist():
        outcome = Status(int(status[row]))
        layers = {}
        reason = None
        if outcome == Status.OK:
            place = slice(n_computed, n_computed + 1)
            layers = {layer: arrays[layer][place] for layer in derivation.layers}
            n_computed += 1
        else:
            reason = source.reasons[row] or (
                f"{derivation.base.name}: not all of layers {describe_layers(derivation.reads)}"
            )
        yield ClipRows(
            source.clip_ids[row],
            outcome.name.lower(),
            reason=reason,
            digest=source.digest[row],
            n_bytes=_known(source.n_bytes[row]),
            mtime_ns=_known(source.mtime_ns[row]),
            layers=layers,
        )


def _known(value: np.int64) -> int | None:
    return int(value) if value >= 0 else None
