"""Boxes in pixels, ``[..., 4]`` as left, top, right, bottom."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.floating[Any]]


def areas(boxes: Boxes) -> Boxes:
    """Return each box's area in square pixels, [F]."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def centres(boxes: Boxes) -> Boxes:
    """Return each box's centre, [F, 2]."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def overlaps(left: Boxes, right: Boxes) -> Boxes:
    """Return intersection over union of every pair, [F, G] for [F, 4] and [G, 4]."""
    top_left = np.maximum(left[:, None, :2], right[None, :, :2])
    bottom_right = np.minimum(left[:, None, 2:], right[None, :, 2:])
    sides = np.clip(bottom_right - top_left, 0, None)
    shared = sides[..., 0] * sides[..., 1]
    union = areas(left)[:, None] + areas(right)[None, :] - shared
    ratio: Boxes = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ratio


def suppress(boxes: Boxes, scores: Boxes, max_overlap: float) -> NDArray[np.intp]:
    """Keep the best of boxes that lie on each other.

    Returns
    -------
    ndarray
        Indices of what is kept, best score first; equal scores keep the order they came in.
    """
    order = np.argsort(-scores, kind="stable")
    table = overlaps(boxes[order], boxes[order])
    kept: list[int] = []
    for rank in range(len(order)):
        if not kept or table[rank, kept].max() < max_overlap:
            kept.append(rank)
    return order[kept]
