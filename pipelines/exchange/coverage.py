"""Coverage: which clips of a list have the layers that are to be exported, and what the others are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_store.clips.rows import id_problem
from mer_store.errors import UsageError
from mer_store.layers import Layer
from mer_store.store.feature_set import FeatureSet
from mer_store.store.ledger import Status
from pipelines.exchange.options import Policy

N_NAMED = 5
WORDS = {Status.EMPTY: "empty", Status.FAILED: "failed", Status.MISSING: "not extracted"}


@dataclass(frozen=True)
class Coverage:
    """What a feature set has of each clip."""

    clip_ids: Sequence[str]
    status: NDArray[np.uint8]
    """[clips] of `Status`: ok where all of the layers are there."""
    reasons: Sequence[str | None]

    @classmethod
    def of(
        cls, feature_set: FeatureSet, layers: Sequence[Layer], clip_ids: Sequence[str]
    ) -> "Coverage":
        """Look clips up.

        Raises
        ------
        UsageError
            An id can be no file's name: a store from elsewhere may hold any.
        """
        for clip_id in clip_ids:
            if reason := id_problem(clip_id):
                raise UsageError(
                    f"{feature_set.name}: {reason}; name the clips to export by --clips"
                )
        ledger = feature_set.ledger(clip_ids)
        layer_status = ledger.of_layers(layers)
        status = np.full(len(clip_ids), Status.MISSING, dtype=np.uint8)
        for found in (Status.EMPTY, Status.FAILED):
            status[(layer_status == found).any(axis=1)] = found
        status[(layer_status == Status.OK).all(axis=1)] = Status.OK
        return cls(clip_ids, status, ledger.reasons)

    def ids(self, *statuses: Status) -> list[str]:
        """Return the clips of some statuses, in the order of the list."""
        rows = np.flatnonzero(np.isin(self.status, statuses))
        return [self.clip_ids[row] for row in rows.tolist()]

    def holes(self) -> list[tuple[str, str, str]]:
        """Return (clip id, a word of `WORDS`, reason) of each clip without features."""
        rows = np.flatnonzero(self.status != Status.OK).tolist()
        return [
            (
                self.clip_ids[row],
                WORDS[Status(int(self.status[row]))],
                " ".join((self.reasons[row] or "").split()),
            )
            for row in rows
        ]

    def refuse(self, what: str, policy: Policy) -> None:
        """Raise `UsageError` where there is a clip that `policy` does not allow for; `what` it is of."""
        allowed: dict[str, tuple[Any, ...]] = {
            "error": (Status.OK,),
            "zeros": (Status.OK, Status.EMPTY),
            "skip": tuple(Status),
        }
        lacking = [status for status in WORDS if status not in allowed[policy]]
        if not (ids := self.ids(*lacking)):
            return
        counts = ", ".join(
            f"{len(found)} {WORDS[status]}" for status in lacking if (found := self.ids(status))
        )
        advice = "`mer-store extract` makes what is missing, `mer-store show CLIP` says why; "
        if policy == "error":
            advice += "--policy zeros writes zeros for the empty ones; "
        raise UsageError(
            f"{what}: {len(ids)} of {len(self.clip_ids)} clips have no features ({counts}): "
            f"{named(ids)}. Nothing was written. {advice}"
            f"--policy skip leaves them out"
        )


def named(clip_ids: Sequence[str]) -> str:
    """Name the first few clips, and say how many more there are."""
    more = f" and {len(clip_ids) - N_NAMED} more" if len(clip_ids) > N_NAMED else ""
    shown = (name if name.isprintable() else ascii(name) for name in clip_ids[:N_NAMED])
    return f"{', '.join(shown)}{more}"
