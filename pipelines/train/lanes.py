"""Lanes: the models that are trained side by side, one for each fold of each repeat."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mer_store.errors import UsageError
from pipelines.train.choices import ProtocolSettings
from pipelines.train.roster import Roster, Rows
from pipelines.train.streams import numpy_stream


@dataclass(frozen=True)
class Lane:
    """One fold of one repeat: what is trained on, and what is scored."""

    repeat: int
    fold: int
    seed: int
    """Of all that is random in this lane, together with repeat and fold."""
    train: Rows
    """Clips of the other folds, and pseudo-labelled clips."""
    choose: Rows
    """Clips whose score chooses the epoch; none where the last epoch is taken."""
    validate: Rows
    """The fold: scored, never trained on."""


def make_lanes(
    roster: Roster, folds: Rows, settings: ProtocolSettings, usable: NDArray[np.bool_]
) -> list[Lane]:
    """Return the lanes, all folds of the first repeat before those of the second.

    Parameters
    ----------
    folds
        [clips], -1 outside.
    usable
        [clips]: has features. Others are neither trained on nor scored.

    Raises
    ------
    UsageError
        A fold, or what is left to train on beside it, is empty.
    """
    pseudo = np.flatnonzero(roster.is_pseudo & usable & ~roster.is_test)
    lanes = []
    for repeat in range(settings.repeats):
        for fold in range(int(folds.max()) + 1):
            validate = np.flatnonzero((folds == fold) & usable)
            train = np.flatnonzero((folds >= 0) & (folds != fold) & usable)
            if not len(validate) or not len(train):
                raise UsageError(
                    f"fold {fold}: {len(validate)} clips with features to score, {len(train)} to train on; "
                    f"expected some of both: extract what is missing (`mer-store status`), or use fewer folds"
                )
            choose = validate if settings.selection == "fold" else validate[:0]
            if settings.selection == "inner":
                train, choose = _hold_out(roster, train, settings, repeat, fold)
            lanes.append(
                Lane(repeat, fold, settings.seed, np.concatenate([train, pseudo]), choose, validate)
            )
    return lanes


def _hold_out(
    roster: Roster, train: Rows, settings: ProtocolSettings, repeat: int, fold: int
) -> tuple[Rows, Rows]:
    """Split off a share of each class, at least one clip in all."""
    shuffled = numpy_stream(settings.seed, "inner", repeat, fold).permutation(train)
    ordered = shuffled[np.argsort(roster.label[shuffled], kind="stable")]
    every = max(2, round(1 / settings.inner_share))
    held = np.zeros(len(ordered), bool)
    held[every // 2 :: every] = True
    if not held.any():
        held[0] = True
    return np.sort(ordered[~held]), np.sort(ordered[held])


def lanes_of(known: Mapping[str, int], roster: Roster, settings: ProtocolSettings) -> list[Lane]:
    """Return the lanes of a finished run for any roster: which clips each of them did not train on.

    Parameters
    ----------
    known
        The run's folds by clip id.
    """
    fold = np.array([known.get(clip_id, -1) for clip_id in roster.clip_ids], np.int64)
    none = np.zeros(0, np.int64)
    return [
        Lane(repeat, number, settings.seed, none, none, np.flatnonzero(fold == number))
        for repeat in range(settings.repeats)
        for number in range(1 + max(known.values()))
    ]


def count_batches(lanes: Sequence[Lane], batch: int) -> int:
    """Return the steps of an epoch: the same for all lanes, the longest needs no batch above `batch`."""
    return max(1, -(-max(len(lane.train) for lane in lanes) // batch))


def epoch_batches(
    lanes: Sequence[Lane], n_batches: int, epoch: int
) -> Iterator[tuple[Rows, NDArray[np.bool_]]]:
    """Yield the batches of an epoch, one clip list a lane.

    A lane's clips are shuffled by its own stream and cut in `n_batches` pieces that differ by one clip at
    most, so that every lane takes every step, and takes the same ones when it is trained alone.

    Yields
    ------
    rows
        [K, B] of the roster; a shorter piece is filled up with its first clip.
    real
        [K, B]: False for what was filled up.
    """
    pieces = [
        np.array_split(
            numpy_stream(lane.seed, "batches", lane.repeat, lane.fold, epoch).permutation(
                lane.train
            ),
            n_batches,
        )
        for lane in lanes
    ]
    for step in range(n_batches):
        longest = max(len(piece[step]) for piece in pieces)
        rows = np.zeros((len(lanes), longest), np.int64)
        real = np.zeros((len(lanes), longest), bool)
        for lane, piece in enumerate(pieces):
            n = len(piece[step])
            rows[lane, :n], real[lane, :n] = piece[step], True
            rows[lane, n:] = piece[step][0] if n else lanes[lane].train[0]
        yield rows, real


def settle(lanes: Sequence[Lane], logits: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return one row of logits a clip from those of all lanes.

    A clip that was scored gets the mean over the repeats of the lanes that did not train on it; every other
    clip the mean over all lanes, as the official baseline does for its test set.

    Parameters
    ----------
    logits
        [K, clips, C]
    """
    settled: NDArray[np.floating] = logits.mean(axis=0)
    for fold in {lane.fold for lane in lanes}:
        own = [number for number, lane in enumerate(lanes) if lane.fold == fold]
        rows = lanes[own[0]].validate
        settled[rows] = logits[own][:, rows].mean(axis=0)
    return settled


def of_all_clips(logits: NDArray[np.floating], clips: Rows, n_clips: int) -> NDArray[np.floating]:
    """Return [K, n_clips, C] from logits [K, n, C] of some clips: NaN for those that have none."""
    full = np.full((len(logits), n_clips, logits.shape[2]), np.nan, logits.dtype)
    full[:, clips] = logits
    return full
