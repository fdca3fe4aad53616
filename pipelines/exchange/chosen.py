"""Choosing what is exported: feature sets, layers, and clips in the order in which they lie on disk."""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mer_store.clips.clip_list import ClipList
from mer_store.errors import StoreDamagedError, UsageError
from mer_store.layers import Layer, describe_layers, parse_layers
from mer_store.store.feature_set import FeatureSet
from mer_store.store.ledger import Ledger, Status
from mer_store.store.store import Store
from mer_store.store.summary import outcomes_of
from pipelines.exchange.options import ExportOptions

#: Rows read and written at once.
BLOCK_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Chosen:
    """Clips and layers of one feature set."""

    feature_set: FeatureSet
    layers: tuple[Layer, ...]
    ledger: Ledger
    """Of the clips whose layers any part speaks of, in the order of their rows on disk."""
    n_missing: int
    """Listed clips that are not among them."""

    @classmethod
    def of(
        cls, feature_set: FeatureSet, layers: tuple[Layer, ...], clip_list: ClipList | None
    ) -> "Chosen":
        """Look up the clips of a list, or all."""
        index = feature_set.index
        numbers: NDArray[np.int64] = np.arange(len(index.first))
        if clip_list is not None:
            numbers = index.find([clip.clip_id for clip in clip_list.clips])
            numbers = numbers[numbers >= 0]
        columns = [index.column(str(layer))[numbers] for layer in layers]
        serving = index.first[numbers]
        for column in reversed(columns):  # the first of the layers that a clip has
            serving = np.where(column >= 0, column, serving)
        rows = index.rows[serving]
        ids = index.ids(numbers[np.lexsort((rows["row_start"], rows["part"]))])
        spoken_of = feature_set.ledger(ids.tolist()).of_layers(layers).any(axis=1)
        ledger = feature_set.ledger(ids[spoken_of].tolist())
        n_listed = len(clip_list.clips) if clip_list is not None else len(ledger.clip_ids)
        return cls(feature_set, layers, ledger, n_listed - len(ledger.clip_ids))

    def lengths(self) -> NDArray[np.int64]:
        """[clips]: rows of each clip, the same in all layers; 0 where it has none.

        Raises
        ------
        StoreDamagedError
            The layers of a clip differ in length.
        """
        index, ids = self.feature_set.index, self.ledger.clip_ids
        number = index.find(ids)
        lengths = np.full(len(ids), -1, np.int64)
        for layer in self.layers:
            row = index.column(str(layer))[number]
            found = np.where(row >= 0, index.rows["n_rows"][row], -1)
            differ = (lengths >= 0) & (found >= 0) & (lengths != found)
            if differ.any():
                raise StoreDamagedError(
                    f"{self.feature_set.name}: clip {ids[int(np.argmax(differ))]}: layers from different "
                    f"parts differ in length; export them one by one with --layers"
                )
            lengths = np.maximum(lengths, found)
        return np.maximum(lengths, 0)

    def status(self) -> NDArray[np.uint8]:
        """[clips] of `Status` over the chosen layers: ok where any is, then failed, empty, missing."""
        layers = self.ledger.of_layers(self.layers)
        status = np.full(len(layers), Status.MISSING, np.uint8)
        for found in (Status.EMPTY, Status.FAILED, Status.OK):
            status[(layers == found).any(axis=1)] = found
        return status

    def reasons(self) -> list[str | None]:
        """Return why a layer of each clip has no features; None where all of them do."""
        reasons = list(self.ledger.reasons)
        statuses = self.ledger.of_layers(self.layers)
        without = ((statuses == Status.EMPTY) | (statuses == Status.FAILED)).any(axis=1).tolist()
        for row, has_none in enumerate(without):
            if has_none and reasons[row] is None:  # other layers of the clip are ok, and so it is
                outcomes = outcomes_of(self.feature_set, self.ledger.clip_ids[row])
                said = [item.reason for item in outcomes if set(item.layers) & set(self.layers)]
                reasons[row] = next(filter(None, said), None)
        return [reason if none else None for reason, none in zip(reasons, without, strict=True)]


def layer_type(feature_set: FeatureSet, layer: Layer) -> tuple[np.dtype[np.floating], int]:
    """Return the type that holds all of a layer, and its width.

    Raises
    ------
    UsageError
        The layer's width differs from part to part.
    """
    name = str(layer)
    infos = [part.arrays[name] for part in feature_set.index.parts if name in part.arrays]
    widths = {info.shape[1] for info in infos}
    if len(widths) > 1:
        raise UsageError(
            f"{feature_set.name}: layer {layer} is of different widths: {sorted(widths)}"
        )
    stored = feature_set.spec.stored_dtype
    return np.result_type(stored, *{info.dtype for info in infos}), widths.pop() if widths else 1


def choose_sets(store: Store, options: ExportOptions) -> list[FeatureSet]:
    """Return all feature sets that fit; raise `UsageError` where none does."""
    names = ("modality", "level", "model", "recipe")
    wanted = {name: value for name in names if (value := getattr(options, name)) is not None}
    found = [
        feature_set
        for feature_set in store.feature_sets()
        if all(getattr(feature_set.spec, name) == value for name, value in wanted.items())
        and feature_set.spec.fingerprint.startswith(options.fingerprint or "")
    ]
    if not found:
        asked = wanted | ({"fingerprint": options.fingerprint} if options.fingerprint else {})
        said = ", ".join(f"{name} {value}" for name, value in asked.items()) or "what was asked for"
        raise UsageError(
            f"{store.path}: no feature set fits {said}; `mer-store status` lists what there is"
        )
    return found


def choose_layers(feature_set: FeatureSet, text: str | None) -> tuple[Layer, ...]:
    """Return the layers asked for, else all that are there.

    Raises
    ------
    UsageError
        They are not there, or there are none.
    """
    if not feature_set.layers:
        raise UsageError(f"{feature_set.name}: holds nothing yet; run `mer-store extract`")
    layers = parse_layers(text, feature_set.layers) if text else feature_set.layers
    if not layers:
        raise UsageError(
            f"{feature_set.name}: no layer asked for; there are {describe_layers(feature_set.layers)}"
        )
    return layers


def refuse_options(options: ExportOptions, what: str) -> None:
    """Refuse what means nothing where a file says what became of each clip."""
    if options.policy != "error":
        raise UsageError(
            f"--policy {options.policy}: {what} files say what became of each clip (status, reason); "
            f"leave it out"
        )
    if options.name:
        raise UsageError(f"--name {options.name}: {what} files are named by --to alone")


def say_chosen(chosen: Chosen) -> None:
    """Say on stderr what was written of a feature set."""
    spec, counts = chosen.feature_set.spec, Counter(chosen.status().tolist())
    words = ", ".join(f"{counts[n]} {Status(n).name.lower()}" for n in sorted(counts))
    missing = f", {chosen.n_missing} listed ones not extracted" if chosen.n_missing else ""
    sys.stderr.write(
        f"{spec.modality}/{spec.name}: layers {describe_layers(chosen.layers)} of clips: "
        f"{words or 'none'}{missing}\n"
    )


def blocks(
    offsets: NDArray[np.int64], wanted: NDArray[np.bool_], row_bytes: int, max_clips: int = 4096
) -> Iterator[slice]:
    """Cut the wanted clips into runs of neighbours of at most `BLOCK_BYTES`, or one clip.

    Parameters
    ----------
    offsets
        [clips + 1]: clip c owns the rows ``offsets[c]:offsets[c + 1]``.
    wanted
        [clips]
    row_bytes
        Of all that is read at once.
    max_clips
        Of one run.
    """
    n_rows = max(BLOCK_BYTES // max(row_bytes, 1), 1)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], wanted.view(np.int8), [0]])))
    for first, last in edges.reshape(-1, 2).tolist():
        start = first
        while start < last:
            fits = int(np.searchsorted(offsets, offsets[start] + n_rows, side="right")) - 1
            stop = min(max(fits, start + 1), start + max_clips, last)
            yield slice(start, stop)
            start = stop
