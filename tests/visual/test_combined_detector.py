"""Threads that wait are served together, each with its own images' faces."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest

from extractors.visual.faces.combine import CombinedDetector
from extractors.visual.faces.detector import Detections


def found(image):
    """Pretend: the score is the image's first grey level."""
    score = image[0, 0, :1].astype(np.float32)
    return Detections(np.zeros((1, 4), np.float32), score, np.zeros((1, 5, 2), np.float32))


def images(first, n):
    return [np.full((2, 2, 3), first + i, np.uint8) for i in range(n)]


class Recorder:
    """Detects, keeps the sizes of the calls, and holds the first until it is released."""

    def __init__(self):
        self.sizes, self.first, self.entered = [], Event(), Event()

    def __call__(self, batch):
        self.sizes.append(len(batch))
        if len(self.sizes) == 1:
            self.entered.set()
            assert self.first.wait(10)
        return [found(image) for image in batch]


def run(recorder, combined, n_threads=5, n_images=3):
    """Let the first call wait until all others queue; return every thread's scores."""
    with ThreadPoolExecutor(n_threads) as pool:
        futures = [pool.submit(combined, images(0, n_images))]
        assert recorder.entered.wait(10)
        futures += [pool.submit(combined, images(10 * i, n_images)) for i in range(1, n_threads)]
        while len(combined._waiting) < n_threads - 1:
            Event().wait(0.001)
        recorder.first.set()
        return [[int(faces.scores[0]) for faces in future.result()] for future in futures]


def test_those_who_wait_go_together_and_get_their_own():
    recorder = Recorder()
    scores = run(recorder, CombinedDetector(recorder, max_images=100))
    assert scores == [[10 * i, 10 * i + 1, 10 * i + 2] for i in range(5)]
    assert recorder.sizes == [3, 12]


def test_batches_are_bounded():
    recorder = Recorder()
    run(recorder, CombinedDetector(recorder, max_images=6))
    assert recorder.sizes == [3, 6, 6]


def test_more_images_than_the_limit_in_one_call():
    combined = CombinedDetector(lambda batch: [found(image) for image in batch], max_images=2)
    assert len(combined(images(0, 7))) == 7


def test_an_error_reaches_the_caller_and_the_next_call_works():
    calls = []

    def breaks_once(batch):
        calls.append(len(batch))
        if len(calls) == 1:
            raise RuntimeError("out of memory")
        return [found(image) for image in batch]

    combined = CombinedDetector(breaks_once, max_images=4)
    with pytest.raises(RuntimeError, match="out of memory"):
        combined(images(0, 2))
    assert len(combined(images(0, 2))) == 2


def test_an_image_that_breaks_the_detector_is_its_own_threads_alone():
    recorder = Recorder()

    def detect(batch):
        found_all = recorder(batch)
        if any(image[0, 0, 0] == 99 for image in batch):
            raise RuntimeError("bad image")
        return found_all

    combined = CombinedDetector(detect, 100)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(combined, images(0, 1))
        assert recorder.entered.wait(10)
        futures = {level: pool.submit(combined, images(level, 1)) for level in (1, 99, 2)}
        while len(combined._waiting) < len(futures):
            Event().wait(0.001)
        recorder.first.set()
        assert len(first.result()) == 1
        for level in (1, 2):
            assert futures[level].result()[0].scores[0] == level
        with pytest.raises(RuntimeError, match="bad image"):
            futures[99].result()
    assert recorder.sizes == [1, 3, 1, 1, 1]
