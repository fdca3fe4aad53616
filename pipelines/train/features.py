"""Features of one modality for the clips of a roster, read from a store when they are needed."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mer_store.errors import UsageError
from mer_store.layers import Layer, describe_layers, parse_layers
from mer_store.store.feature_set import FeatureSet
from mer_store.store.located import Located
from mer_store.store.store import Store
from pipelines.train.choices import FeatureChoice
from pipelines.train.roster import Roster, Rows

Combine = Literal["each", "mean", "sum"]
"""``each`` keeps the layers apart; ``mean`` and ``sum`` make one of them while reading."""


@dataclass(frozen=True)
class Features:
    """One modality's features.

    Which clips have them is known at once. At utterance level values are read at the first use of `values`
    and kept; at frame level they are read a batch at a time, by whoever needs them.
    """

    feature_set: FeatureSet
    located: Located
    combine: Combine
    clip_ids: tuple[str, ...]
    """Of the roster."""
    digest: str
    """Of all that decides the values: spec, layers, and the media each clip was extracted from."""

    @property
    def modality(self) -> str:
        """``audio``, ``visual`` or ``text``."""
        return self.feature_set.spec.modality

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Which layers."""
        return self.located.layers

    @property
    def row(self) -> Rows:
        """[clips]: where a clip's values are, -1 for a clip that has none. They lie as they do on disk."""
        return self.located.row

    @property
    def there(self) -> NDArray[np.bool_]:
        """[clips]: whether a clip has features at all the layers."""
        return self.located.there

    @cached_property
    def values(self) -> NDArray[Any]:
        """[clips that have them, L, D] as stored, or [.., 1, D] float32 where layers were combined."""
        if self.combine == "each" or len(self.layers) == 1:
            return self.located.read()
        total = self._layer(0).read(np.float32)
        for number in range(1, len(self.layers)):
            total += self._layer(number).read()
        return total if self.combine == "sum" else total / np.float32(len(self.layers))

    def _layer(self, number: int) -> Located:
        some = slice(number, number + 1)
        return replace(self.located, layers=self.layers[some], serving=self.located.serving[some])

    @property
    def width(self) -> int:
        """D."""
        return int(self.values.shape[2])

    def describe(self) -> dict[str, Any]:
        """Return what a run notes about its input."""
        return {
            "modality": self.modality,
            "feature_set": self.feature_set.name,
            "fingerprint": self.feature_set.spec.fingerprint,
            "layers": list(self.layers),
            "combine": self.combine,
            "n_clips": int(self.there.sum()),
            "digest": self.digest,
            "spec": json.loads(self.feature_set.spec.to_json()),
        }


def find_features(
    store: Store, modality: str, level: str, choice: FeatureChoice
) -> tuple[FeatureSet, tuple[Layer, ...]]:
    """Return the feature set that fits a choice, and the layers of it.

    Raises
    ------
    UsageError
        None fits, or several do, or it lacks a layer. The message lists what there is.
    """
    feature_set = store.features(
        modality,
        level=level,
        model=choice.model or None,
        recipe=choice.recipe or None,
        fingerprint=choice.fingerprint or None,
    )
    if not choice.layers:
        return feature_set, feature_set.layers
    return feature_set, parse_layers(choice.layers, feature_set.layers)


def choice_of(described: Mapping[str, Any]) -> FeatureChoice:
    """Return the choice that finds again what `Features.describe` described, whatever else is there."""
    layers = ",".join(map(str, described["layers"]))
    return FeatureChoice(layers=layers, recipe="", fingerprint=described["fingerprint"])


def open_features(
    store: Store,
    modality: str,
    choice: FeatureChoice,
    roster: Roster,
    combine: Combine = "each",
    level: str = "utterance",
) -> Features:
    """Find the features of a modality for a roster, without reading their values.

    Raises
    ------
    UsageError
        See `find_features`; or none of the roster's clips has them.
    """
    feature_set, layers = find_features(store, modality, level, choice)
    located = feature_set.locate(layers, roster.asked)
    if not located.there.any():
        raise UsageError(
            f"{store.where}: {modality}/{feature_set.name} has layers {describe_layers(layers)} of none of "
            f"the {len(roster.clip_ids)} clips in the list; is it the right --clips?"
        )
    return Features(
        feature_set,
        located,
        combine,
        roster.clip_ids,
        _digest(feature_set, located, combine, roster),
    )


def _digest(feature_set: FeatureSet, located: Located, combine: str, roster: Roster) -> str:
    key = [feature_set.spec.fingerprint, list(located.layers), combine]
    digest = hashlib.sha256(json.dumps(key).encode())
    digest.update("\n".join(roster.ids[located.there].tolist()).encode())
    digest.update(b"\n".join(located.media))
    return digest.hexdigest()
