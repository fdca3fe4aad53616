"""The layer sweep: weighted F1 of a probe on each layer, as a table and as the paper's Figure 2."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mer_store.layers import Layer
from pipelines.pictures import BAD, INK, PALE, png
from pipelines.train.features import Features

CSV, PNG = "layer_sweep.csv", "layer_sweep.png"


@dataclass(frozen=True)
class LayerScore:
    """How well one layer does."""

    layer: Layer
    weighted_f1_mean: float
    weighted_f1_std: float
    n_clips: int
    weighted_f1_by_lane: tuple[float, ...]
    """Of each fold, repeat after repeat."""

    @classmethod
    def of(cls, layer: Layer, summary: Mapping[str, Any]) -> "LayerScore":
        """Take from what `summarise_scores` returned."""
        return cls(
            layer,
            summary["weighted_f1_mean"],
            summary["weighted_f1_std"],
            summary["n_clips"],
            tuple(summary["weighted_f1_by_lane"]),
        )


def write_layer_sweep(
    folder: Path, layers: Sequence[LayerScore], spread_over: str, selection: str, features: Features
) -> None:
    """Write ``layer_sweep.csv`` and ``layer_sweep.png``.

    Parameters
    ----------
    spread_over
        ``folds`` or ``repeats``: what the spread is over.
    selection
        Which epoch is reported.
    """
    with (folder / CSV).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["layer", "weighted_f1_mean", "weighted_f1_std", "n_clips"])
        for one in layers:
            row = [f"{value:.6f}" for value in (one.weighted_f1_mean, one.weighted_f1_std)]
            writer.writerow([one.layer, *row, one.n_clips])
    spec = features.feature_set.spec
    note = "" if spec.trained else " · UNTRAINED FEATURES"
    title = (
        f"Probe of each layer: {spec.modality}, {spec.model}{note}\n"
        f"{layers[0].n_clips:,} clips, selection {selection!r}, spread over {spread_over}"
    )
    (folder / PNG).write_bytes(png(draw_layer_sweep(layers, title)))


def draw_layer_sweep(layers: Sequence[LayerScore], title: str) -> Figure:
    """Draw weighted F1 (x 100) with its spread against the layer; the best one is marked."""
    mean = 100 * np.array([one.weighted_f1_mean for one in layers])
    std = 100 * np.array([one.weighted_f1_std for one in layers])
    place = np.arange(len(layers))
    best = int(mean.argmax())
    figure = Figure(figsize=(max(6.5, 0.55 * len(layers)), 3.8))
    axis = figure.subplots()
    axis.fill_between(place, mean - std, mean + std, color=PALE, label="± one standard deviation")
    axis.plot(place, mean, color=INK, marker="o", linewidth=1.8)
    axis.plot(
        place[best],
        mean[best],
        "o",
        color=BAD,
        markersize=9,
        label=f"best: layer {layers[best].layer}",
    )
    axis.annotate(
        f"{mean[best]:.2f}", (place[best], mean[best] + std[best]), xytext=(0, 5),
        textcoords="offset points", ha="center", color=BAD, fontweight="bold",
    )  # fmt: skip
    low, high = float((mean - std).min()), float((mean + std).max())
    margin = 0.12 * max(high - low, 1.0)
    axis.set_ylim(max(0.0, low - margin), min(100.0, high + 2 * margin))
    axis.set_xticks(place, [str(one.layer) for one in layers])
    axis.set_xlabel("layer")
    axis.set_ylabel("weighted F1 (%)")
    axis.set_title(title, fontsize=9.5, loc="left")
    axis.grid(axis="y", color=PALE, linewidth=0.8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(loc="best", frameon=False, fontsize=8.5)
    return figure
