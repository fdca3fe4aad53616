"""Which images the detector sees, and where faces are in those that it does not see."""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from extractors.media.images import Image
from extractors.visual.faces.detector import Detections, FaceDetector
from extractors.visual.faces.scan import Scan, Seen

DETECT_IMAGES = 8
"""Images that go to the detector at once: 50 MB at 1920 x 1080."""


def look_through(
    images: Iterator[Image], detector: FaceDetector, scan: Scan, every: int = 1
) -> None:
    """Find the faces of all images, in order.

    With `every` above 1 the detector sees the first image, each `every`-th after it, and the last. Where the
    same people are in two that it saw one after the other, their faces move from one place to the other in
    straight lines; where not, it sees the images between, too.
    """
    between: list[Image] = []
    n_images = max(DETECT_IMAGES // every, 1) * every
    while chunk := list(islice(images, n_images)):
        found = iter(_detect(detector, chunk[::every]))
        for place, image in enumerate(chunk):
            if place % every:
                between.append(image)
            else:
                _settle(between, image, next(found), detector, scan)
                between = []
    if between:
        *between, last = between
        [faces] = _detect(detector, [last])
        _settle(between, last, faces, detector, scan)


def _detect(detector: FaceDetector, images: Sequence[Image]) -> list[Detections]:
    return detector([image.rgb for image in images])


def _settle(
    between: Sequence[Image], image: Image, faces: Detections, detector: FaceDetector, scan: Scan
) -> None:
    """Say where the faces are `between` the last image that was seen and this one."""
    last = scan.last
    if between and last is not None:
        here = Seen(image.time_s, faces, scan.would_see(faces, image.time_s))
        if set(here.numbers.tolist()) == set(last.numbers.tolist()):
            for one in between:
                scan.add(one, *_moved(last, here, one.time_s))
        else:
            for one, found in zip(between, _detect(detector, between), strict=True):
                scan.add(one, found)
    scan.add(image, faces)


def _moved(one: Seen, other: Seen, time_s: float) -> tuple[Detections, NDArray[np.int64]]:
    """Return the same people's faces between two images, and whose they are."""
    part = np.float32((time_s - one.time_s) / max(other.time_s - one.time_s, 1e-9))
    order = [int(np.flatnonzero(other.numbers == number)[0]) for number in one.numbers]
    begin, end = one.faces, other.faces
    return (
        Detections(
            boxes=begin.boxes + part * (end.boxes[order] - begin.boxes),
            scores=np.minimum(begin.scores, end.scores[order]),
            points=begin.points + part * (end.points[order] - begin.points),
        ),
        one.numbers,
    )
