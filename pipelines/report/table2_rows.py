"""The rows of the paper's Table 2: what each reads, and what makes that."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mer_store.layers import Layer, describe_layers
from mer_store.store.store import Store
from pipelines.train.run_folder import RunFolder

ADAPT, ALIGN = "hlft16-21", "align"
EXTRACT = "mer-store extract --modality"


@dataclass(frozen=True)
class Need:
    """Features that a row reads."""

    modality: str
    recipe: str
    layers: tuple[Layer, ...]
    """None: whichever there are."""
    command: str
    """Makes them, once `after` is there."""
    level: str = "utterance"
    after: tuple["Need", ...] = ()

    @property
    def words(self) -> str:
        """The features in words: ``audio mertools2024 last4sum``."""
        return _words(self.modality, self.level, self.recipe, self.layers)

    def in_store(self, store: Store) -> bool:
        """Whether a store has such a feature set with these layers."""
        return any(
            (found.spec.modality, found.spec.level, found.spec.recipe)
            == (self.modality, self.level, self.recipe)
            and set(self.layers) <= set(found.layers)
            for found in store.feature_sets()
        )


SUMMED = Need(
    "audio", "mertools2024", ("last4sum",), f"{EXTRACT} audio --recipe mertools2024 --layers last4sum"
)  # fmt: skip
POOLED_18 = Need("audio", "default", (18,), f"{EXTRACT} audio --layers 16-21")
POOLED = Need("audio", "default", tuple(range(16, 22)), f"{EXTRACT} audio --layers 16-21")
FRAMES = Need(
    "audio", "default", (15,), f"{EXTRACT} audio --layers 16-21 --frame-layers 15", level="frame"
)
CLIP = Need("visual", "default", ("embed",), f"{EXTRACT} visual")
TEXT = Need("text", "default", (), f"{EXTRACT} text")
#: ``RUN`` is the run of row HLFT(16-21); before there is one, it is what has to be trained.
ADAPTED = Need("audio", "adapter", ("fused",), f"{EXTRACT} audio --adapter RUN", after=(FRAMES,))
ALIGNED = Need(
    "visual", "aligned", ("aligned",), f"mer-store train align --config {ALIGN}", after=(CLIP, ADAPTED)
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One row of the paper's table."""

    name: str
    config: str
    task: str
    needs: tuple[Need, ...]
    published: float | None = None
    """The paper's weighted F1 on the test set of MER2024-SEMI, in percent."""


#: Only the last row's score is known to us: the paper's abstract.
ROWS = (
    Row("HL", "hl", "probe", (SUMMED,)),
    Row("HL(18)", "hl18", "probe", (POOLED_18,)),
    Row("HL(16-21)", "hl16-21", "probe", (POOLED,)),
    Row("HLFT(18)", "hlft18", "adapter", (FRAMES,)),
    Row("HLFT(16-21)", ADAPT, "adapter", (FRAMES,)),
    Row("CLIPL", "clipl", "probe", (CLIP,)),
    Row("CLIPL-A", "clipl-a", "probe", (ALIGNED,)),
    Row("A+V", "a+v", "fusion", (ADAPTED, CLIP)),
    Row("A+V-aligned", "a+v-aligned", "fusion", (ADAPTED, ALIGNED)),
    Row("A+T", "a+t", "fusion", (ADAPTED, TEXT)),
    Row("A+V+T", "a+v+t", "fusion", (ADAPTED, ALIGNED, TEXT), 88.90),
)


@dataclass(frozen=True)
class Filled:
    """A row with what is known of it."""

    row: Row
    run: RunFolder | None = None
    why: str = ""
    """Why there is no run, and what to do."""
    other_settings: bool = False
    """Whether the run has settings that the row's bundled config has not."""
    aligned_to_adapted: bool = False
    """Whether its visual features were aligned with what adapters made."""

    @property
    def saw_labels(self) -> bool:
        """Whether adapters that had seen the labels of all folds made its features, or what they match."""
        return self.aligned_to_adapted or any(
            "adapter" in item["spec"]["preprocessing"] for item in self._inputs
        )

    @property
    def untrained(self) -> bool:
        """Whether its features say nothing about any real model."""
        return any(not item["spec"]["trained"] for item in self._inputs)

    @property
    def features(self) -> str:
        """What was read, or is to be read: ``audio default 18``."""
        if self.run is None:
            return ", ".join(need.words for need in self.row.needs)
        return ", ".join(
            _words(item["modality"], item["spec"]["level"], item["spec"]["recipe"], item["layers"])
            for item in self._inputs
        )

    @property
    def _inputs(self) -> list[dict[str, Any]]:
        return self.run.inputs if self.run else []


def values_of(filled: Filled) -> dict[str, Any]:
    """Return a row as plain values, scores in percent."""
    summary = filled.run.summary if filled.run else {}
    return {
        "row": filled.row.name,
        "features": filled.features,
        "weighted_f1_mean": _percent(summary.get("weighted_f1_mean")),
        "weighted_f1_std": _percent(summary.get("weighted_f1_std")),
        "spread_over": summary.get("spread_over"),
        "test_weighted_f1": _percent(summary.get("test", {}).get("weighted_f1")),
        "selection": summary.get("selection"),
        "n_clips": summary.get("n_clips"),
        "published_test_weighted_f1": filled.row.published,
        "features_saw_labels": filled.saw_labels,
        "untrained_features": filled.untrained,
        "other_settings": filled.other_settings,
        "run": str(filled.run.path) if filled.run else None,
        "note": filled.why or None,
    }


def _words(modality: str, level: str, recipe: str, layers: Sequence[Layer]) -> str:
    """Write which features: ``audio default 16-21``, ``audio frames default 15``, ``visual aligned``."""
    shown = describe_layers(layers) if layers else ""
    words = (modality, "frames" if level == "frame" else "", recipe, shown)
    return " ".join(dict.fromkeys(filter(None, words)))


def _percent(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 2)
