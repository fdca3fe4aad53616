"""Pictures of a training, as PNG bytes."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pipelines.pictures import BAD, GOOD, INK, PALE, WARM, png

COLOURS = (INK, BAD, GOOD, WARM, "#7b6d8d", "#4d908e", "#90be6d", "#577590")


def draw_curves(
    metrics: Sequence[Mapping[str, object]], groups: Mapping[str, Sequence[str]]
) -> bytes:
    """Draw what was logged over the epochs, one axis a group.

    Parameters
    ----------
    groups
        Names of the logged numbers by title of their axis.
    """
    figure = Figure(figsize=(4.6 * len(groups), 3.1), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(groups)))
    for axis, (title, names) in zip(axes, groups.items(), strict=True):
        for name, colour in zip(names, COLOURS, strict=False):
            points = [(entry["epoch"], entry[name]) for entry in metrics if name in entry]
            marker = "o" if len(points) == 1 else ""
            axis.plot(
                *zip(*points, strict=True),
                color=colour,
                label=name.replace("_", " "),
                marker=marker,
            )
        _dress(axis, title)
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(names) > 1:
            axis.legend(frameon=False, fontsize=8)
    return png(figure)


def draw_confusion(confusion: NDArray[np.int_], classes: Sequence[str]) -> bytes:
    """Draw counts [labels, predictions], shaded by their share of the row."""
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = 1.6 + 0.62 * len(classes)
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axis = figure.subplots()
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*confusion.shape):
        colour = "white" if share[row, column] > 0.55 else INK
        words = f"{confusion[row, column]}\n{100 * share[row, column]:.0f} %"
        axis.text(column, row, words, ha="center", va="center", fontsize=7.5, color=colour)
    places = np.arange(len(classes))
    axis.set_xticks(places, classes, rotation=40, ha="right", fontsize=8.5)
    axis.set_yticks(places, classes, fontsize=8.5)
    axis.set_xlabel("predicted")
    axis.set_ylabel("label")
    return png(figure)


def draw_bars(
    names: Sequence[str], values: Sequence[float], spread: Sequence[float], title: str
) -> bytes:
    """Draw one bar a name, with its spread."""
    figure = Figure(figsize=(max(4.5, 0.62 * len(names) + 1.5), 2.9), layout="constrained")
    axis = figure.subplots()
    axis.bar(names, values, yerr=spread, color=GOOD, ecolor=INK, capsize=3, width=0.65)
    axis.axhline(0, color=INK, linewidth=0.8)
    _dress(axis, title)
    return png(figure)


def draw_attention(weights: Mapping[str, Mapping[str, float]]) -> bytes:
    """Draw the mean attention, stacked, a bar for each class: class -> modality -> weight."""
    figure = Figure(figsize=(7.2, 0.42 * len(weights) + 1.3), layout="constrained")
    axis = figure.subplots()
    left = np.zeros(len(weights))
    modalities = list(next(iter(weights.values())))
    for modality, colour in zip(modalities, COLOURS, strict=False):
        values = np.array([by_modality[modality] for by_modality in weights.values()])
        bars = axis.barh(list(weights), values, left=left, color=colour, label=modality)
        labels = [f"{value:.2f}" if value >= 0.06 else "" for value in values]
        axis.bar_label(bars, labels, label_type="center", fontsize=8, color="white")
        left += values
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(ncols=len(modalities), loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    return png(figure)


def draw_coverage(names: Sequence[str], counts: NDArray[np.int_], statuses: Sequence[str]) -> bytes:
    """Draw how many clips of each feature set have which outcome.

    Parameters
    ----------
    counts
        [feature sets, statuses]
    """
    figure = Figure(figsize=(8, 0.5 * len(names) + 1.0))
    axis = figure.subplots()
    left = np.zeros(len(names))
    colours = {"ok": GOOD, "empty": WARM, "failed": BAD, "missing": PALE}
    for column, status in enumerate(statuses):
        bars = axis.barh(names, counts[:, column], left=left, color=colours[status], label=status)
        axis.bar_label(
            bars, [str(n) if n else "" for n in counts[:, column]], label_type="center", fontsize=9
        )
        left += counts[:, column]
    axis.invert_yaxis()
    axis.set_xlabel("clips")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(ncols=len(statuses), loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    return png(figure)


def _dress(axis: Axes, title: str) -> None:
    axis.set_title(title, fontsize=10, loc="left")
    axis.grid(axis="y", color=PALE, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
