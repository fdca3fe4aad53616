"""Pictures of a training, as PNG bytes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipelines.pictures import BAD, GOOD, INK, PALE, WARM, png

COLOURS = (INK, BAD, GOOD, WARM, "#7b6d8d", "#4d908e", "#90be6d", "#577590")
N_COLUMNS = 2


def draw_curves(
    metrics: Sequence[Mapping[str, object]],
    groups: Mapping[str, Sequence[str]],
    levels: Mapping[str, float] | None = None,
) -> bytes:
    """Draw what was logged over the epochs, one axis a group.

    Parameters
    ----------
    groups
        Names of the logged numbers by title of their axis.
    levels
        What a number would be by chance, by its name.
    """
    n_columns = min(len(groups), N_COLUMNS)
    n_rows = -(-len(groups) // n_columns)
    figure = Figure(figsize=(4.8 * n_columns, 3.0 * n_rows), layout="constrained")
    axes = np.ravel(figure.subplots(n_rows, n_columns))
    for axis in axes[len(groups) :]:
        axis.set_axis_off()
    for axis, (title, names) in zip(axes, groups.items(), strict=False):
        for name, colour in zip(names, COLOURS, strict=False):
            points = [(entry["epoch"], entry[name]) for entry in metrics if name in entry]
            marker = "o" if len(points) == 1 else ""
            axis.plot(
                *zip(*points, strict=True),
                color=colour,
                label=name.replace("_", " "),
                marker=marker,
            )
            if levels and name in levels:
                axis.axhline(levels[name], color=colour, linestyle=":", linewidth=1)
        _dress(axis, title)
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(names) > 1:
            axis.legend(frameon=False, fontsize=8)
    return png(figure)


def draw_layer_weights(weights: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw how much each layer counts in a learnt sum.

    Parameters
    ----------
    weights
        ``layer``, and ``size`` (mean of the absolute weights) where the sign of a whole sum means
        nothing, else ``mean`` and ``std``.
    """
    sizes = "size" in weights[0]
    names = [str(one["layer"]) for one in weights]
    figure = Figure(figsize=(max(4.5, 0.62 * len(names) + 1.5), 2.9), layout="constrained")
    axis = figure.subplots()
    places = range(len(names))
    if sizes:
        axis.bar(places, [one["size"] for one in weights], color=GOOD, width=0.65)
        _dress(axis, "mean size |w| over the models")
    else:
        means, spread = [[one[key] for one in weights] for key in ("mean", "std")]
        axis.bar(places, means, yerr=spread, color=GOOD, ecolor=INK, capsize=3, width=0.65)
        _dress(axis, "mean ± standard deviation over the models")
    axis.axhline(0, color=INK, linewidth=0.8)
    axis.set_xticks(places, names, parse_math=False)
    axis.set_xlabel("layer")
    return png(figure)


def _dress(axis: Axes, title: str) -> None:
    axis.set_title(title, fontsize=10, loc="left")
    axis.grid(axis="y", color=PALE, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
