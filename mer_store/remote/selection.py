"""Which part of a store is wanted: feature sets, layers, clips."""

from collections.abc import Iterable
from dataclasses import dataclass

from mer_store.errors import UsageError
from mer_store.layers import Layer, describe_layers, parse_layers
from mer_store.spec import Spec
from mer_store.store.record import CommitRecord


@dataclass(frozen=True)
class Selection:
    """What of a store is to be moved. Nothing said is everything."""

    modality: str | None = None
    model: str | None = None
    level: str | None = None
    recipe: str | None = None
    fingerprint: str | None = None
    """The first digits of it are enough."""
    layers: str | None = None
    """As on the command line: ``16-21``."""
    clip_ids: frozenset[str] | None = None

    def fits(self, spec: Spec) -> bool:
        """Tell whether a feature set is wanted."""
        asked = (self.modality, self.model, self.level, self.recipe)
        has = (spec.modality, spec.model, spec.level, spec.recipe)
        return all(one is None or one == other for one, other in zip(asked, has, strict=True)) and (
            spec.fingerprint.startswith(self.fingerprint or "")
        )

    @property
    def cuts_parts(self) -> bool:
        """Whether only a piece of a part may be wanted."""
        return self.layers is not None or self.clip_ids is not None

    def layers_among(
        self, records: Iterable[CommitRecord], where: str, here: Iterable[Layer] = ()
    ) -> frozenset[Layer]:
        """Return the layers wanted, of those that any of `records` holds or that are `here` already.

        Raises
        ------
        UsageError
            A layer is asked for that is neither.
        """
        held = {layer for record in records for layer in record.layers} | set(here)
        if self.layers is None:
            return frozenset(held)
        ordered = sorted(held, key=lambda layer: (isinstance(layer, str), layer))
        try:
            return frozenset(parse_layers(self.layers, ordered))
        except UsageError as error:
            raise UsageError(
                f"{where}: layers {self.layers!r}: it holds {describe_layers(held)}"
            ) from error

    def clips_of(self, record: CommitRecord) -> tuple[str, ...]:
        """Return the clips of a part that are wanted, whatever became of them."""
        ids = (row.clip_id for row in record.ledger)
        return tuple(i for i in ids if self.clip_ids is None or i in self.clip_ids)
