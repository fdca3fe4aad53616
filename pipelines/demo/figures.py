"""Pictures of a store's features, as PNG bytes."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mer_store.layers import Layer
from pipelines.pictures import BAD, GOOD, INK, PALE, WARM, png


def draw_layer_over_time(
    waveform: NDArray[np.float32],
    rows: NDArray[np.floating],
    layer: Layer,
    rate_hz: int,
    frame_shift_s: float,
) -> bytes:
    """Draw a clip's sound above one layer's frames.

    Parameters
    ----------
    waveform
        [N] samples at `rate_hz`.
    rows
        [T, D] one layer's frames, `frame_shift_s` apart.
    """
    figure = Figure(figsize=(9, 3.6))
    sound, heat = figure.subplots(2, 1, sharex=True, height_ratios=[1, 2])
    sound.plot(np.arange(len(waveform)) / rate_hz, waveform, color=INK, linewidth=0.5)
    sound.set_ylabel("amplitude")
    spread = np.abs(rows).max() or 1.0
    heat.imshow(
        rows.T.astype(np.float32), aspect="auto", cmap="RdBu_r", vmin=-spread, vmax=spread,
        extent=(0, len(rows) * frame_shift_s, rows.shape[1], 0), interpolation="nearest",
    )  # fmt: skip
    heat.set_ylabel(f"layer {layer}, dimension")
    heat.set_xlabel("time (s)")
    return png(figure)


def draw_similarity(features: dict[str, NDArray[np.floating]]) -> bytes:
    """Draw the cosine similarity of clips, one square per modality.

    Parameters
    ----------
    features
        [clips, D] by title; all with the same clips in the same order.
    """
    figure = Figure(figsize=(3.4 * len(features), 3.6), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(features)))
    for axis, (title, rows) in zip(axes, features.items(), strict=True):
        values = rows.astype(np.float32)
        values = values - values.mean(axis=0)
        values /= np.linalg.norm(values, axis=1, keepdims=True) + 1e-12
        image = axis.imshow(
            values @ values.T, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest"
        )
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("clip")
    axes[0].set_ylabel("clip")
    figure.colorbar(image, ax=list(axes), shrink=0.8, label="cosine similarity about the mean")
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
