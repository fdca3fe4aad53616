"""Folds: which clips are scored together by models that were not trained on them."""

import csv
from pathlib import Path

import numpy as np

from mer_store.errors import UsageError
from pipelines.train.choices import ProtocolSettings
from pipelines.train.roster import Roster, Rows
from pipelines.train.streams import numpy_stream

OUTSIDE = -1


def assign_folds(roster: Roster, settings: ProtocolSettings) -> Rows:
    """Return [clips]: the fold of each scored clip, numbered from 0, -1 for all others.

    Taken from `settings.folds`, else from the clip list, else drawn: each class is shuffled by the seed and
    dealt out, so that folds differ by one clip a class at most. The draw does not depend on the list's order.

    Raises
    ------
    UsageError
        Scored clips without a fold in the file or list that names folds.
    """
    scored = np.flatnonzero(roster.scored)
    folds = np.full(len(roster.clip_ids), OUTSIDE, np.int64)
    if settings.folds:
        known = read_folds(Path(settings.folds))
        given = [known.get(roster.clip_ids[row], OUTSIDE) for row in scored.tolist()]
        folds[scored] = _complete(roster, scored, np.array(given), settings.folds)
    elif (roster.listed_fold[scored] >= 0).any():
        folds[scored] = _complete(roster, scored, roster.listed_fold[scored], "the clip list")
    else:
        folds[scored] = _draw(roster, scored, settings)
    return folds


def _complete(roster: Roster, scored: Rows, folds: Rows, where: str) -> Rows:
    """Count folds from 0; raise where some clip has none."""
    if (lacking := scored[folds < 0]).size:
        raise UsageError(
            f"{where}: {len(lacking)} labelled clips have no fold, e.g. {roster.clip_ids[lacking[0]]}; "
            f"give every labelled clip one, or none"
        )
    names, numbered = np.unique(folds, return_inverse=True)
    if len(names) < 2:
        raise UsageError(f"{where}: all labelled clips are in one fold; expected 2 or more")
    return numbered.astype(np.int64).reshape(-1)


def _draw(roster: Roster, scored: Rows, settings: ProtocolSettings) -> Rows:
    if len(scored) < settings.n_folds:
        raise UsageError(f"{len(scored)} labelled clips: fewer than {settings.n_folds} folds")
    by_id = sorted(range(len(scored)), key=lambda n: roster.clip_ids[scored[n]])
    shuffled = numpy_stream(settings.fold_seed, "folds").permutation(np.array(by_id))
    dealt = shuffled[np.argsort(roster.label[scored[shuffled]], kind="stable")]
    folds = np.empty(len(scored), np.int64)
    folds[dealt] = np.arange(len(scored)) % settings.n_folds
    return folds


def write_folds(roster: Roster, folds: Rows, path: Path) -> None:
    """Write ``clip_id,fold`` of every scored clip."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["clip_id", "fold"])
        writer.writerows(
            [roster.clip_ids[row], folds[row]] for row in np.flatnonzero(folds >= 0).tolist()
        )


def read_folds(path: Path) -> dict[str, int]:
    """Read what `write_folds` wrote."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if not {"clip_id", "fold"} <= set(reader.fieldnames or ()):
                raise UsageError(f"{path}:1: expected the columns clip_id,fold")
            return {row["clip_id"]: int(row["fold"]) for row in reader}
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path}: expected whole numbers as folds: {error}") from error
