"""Overlap and suppression of boxes."""

import numpy as np

from extractors.visual.faces.boxes import overlaps, suppress


def test_overlap_is_intersection_over_union():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]], float)
    expected = [[1, 50 / 150, 0], [50 / 150, 1, 0], [0, 0, 1]]
    np.testing.assert_allclose(overlaps(boxes, boxes), expected)


def test_boxes_without_area_overlap_nothing():
    point = np.array([[5, 5, 5, 5]], float)
    assert overlaps(point, point) == 0.0


def test_best_score_survives_and_distant_boxes_too():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]], float)
    assert list(suppress(boxes, np.array([0.6, 0.9, 0.7]), 0.3)) == [1, 2]


def test_suppressed_box_does_not_suppress_in_turn():
    """A chain: the middle box falls to the first, so the last, which only the middle covers, stays."""
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10]], float)
    assert list(suppress(boxes, np.array([0.9, 0.8, 0.7]), 0.3)) == [0, 2]


def test_equal_scores_keep_their_order():
    boxes = np.array([[0, 0, 1, 1], [5, 5, 6, 6], [9, 9, 10, 10]], float)
    assert list(suppress(boxes, np.ones(3), 0.5)) == [0, 1, 2]


def test_nothing_in_nothing_out():
    assert len(suppress(np.zeros((0, 4)), np.zeros(0), 0.5)) == 0
