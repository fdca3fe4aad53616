"""Stages of the visual path up to the crops: decode, detect, follow, cut."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from visual_clips import Video

from extractors.contract import ClipEmpty
from extractors.media.images import decode_images
from extractors.visual.faces.align import crop_face
from extractors.visual.faces.boxes import overlaps
from extractors.visual.faces.combine import CombinedDetector
from extractors.visual.faces.crops import Table
from extractors.visual.faces.detector import N_POINTS, Detections, FaceDetector, Rgb
from extractors.visual.faces.following import DETECT_IMAGES, look_through
from extractors.visual.faces.scan import Scan

EVERY = 5
MAX_IMAGES = 64
"""Of a call that several clips share."""
ONE_BY_ONE = "detect in every image, one a call"
FOLLOW = f"detect in every {EVERY}th, follow between"

Job = Callable[[], object]


class OneByOne:
    """A detector that is given one image a call, and how many it has been given."""

    def __init__(self, detector: FaceDetector) -> None:
        self.settings = detector.settings
        self.n_images = 0
        self._detector = detector

    def __call__(self, images: Sequence[Rgb]) -> list[Detections]:
        self.n_images += len(images)
        return [found for image in images for found in self._detector([image])]


class Gathered:
    """A detector whose calls from several threads go through together."""

    def __init__(self, detector: FaceDetector) -> None:
        self.settings = detector.settings
        self._combined = CombinedDetector(detector, MAX_IMAGES)

    def __call__(self, images: Sequence[Rgb]) -> list[Detections]:
        return self._combined(images)


def scan(video: Video, detector: FaceDetector, every: int = 1) -> Scan:
    """Find and follow the faces of a clip, and cut none out."""
    found = Scan(crop_px=1, max_held=0)
    look_through(iter(video.images), detector, found, every)
    return found


def table_of(found: Scan) -> Table | None:
    """Return where the clip's person is, None where there is nobody."""
    try:
        return found.table(found.choose())
    except ClipEmpty:
        return None


def cut_crops(videos: Sequence[Video], tables: Sequence[Table | None], side_px: int) -> Rgb:
    """Return the crops [n, side, side, 3] of faces that are found already."""
    return np.stack(
        [
            crop_face(
                image.rgb, table["box"][number], table["points"][number].reshape(N_POINTS, 2), side_px
            )
            for video, table in zip(videos, tables, strict=True)
            if table is not None
            for number, image in enumerate(video.images)
            if table["row"][number] >= 0
        ]
    )  # fmt: skip


@contextmanager
def face_jobs(
    videos: Sequence[Video], detector: FaceDetector, tables: Sequence[Table | None], side_px: int
) -> Iterator[dict[str, Job]]:
    """Give what is timed. A thread a clip lives as long as the block, so networks are loaded once."""
    single, gathered = OneByOne(detector), Gathered(detector)
    n_clips = len(videos)
    with ThreadPoolExecutor(n_clips) as pool:

        def side_by_side(shared: FaceDetector) -> object:
            return list(pool.map(lambda video: scan(video, shared), videos))

        yield {
            "decode": lambda: [sum(1 for _ in decode_images(video.blob)) for video in videos],
            ONE_BY_ONE: lambda: [scan(video, single) for video in videos],
            f"... {DETECT_IMAGES} of a clip a call": lambda: [scan(v, detector) for v in videos],
            f"... {n_clips} clips, a thread each": lambda: side_by_side(detector),
            f"... {n_clips} clips gathered into one call": lambda: side_by_side(gathered),
            FOLLOW: lambda: [scan(video, single, EVERY) for video in videos],
            "cut crops out of found faces": lambda: cut_crops(videos, tables, side_px),
        }


@dataclass(frozen=True)
class Agreement:
    """How far faces that are followed are from those that are detected in every image."""

    overlap: float
    """Intersection over union of the boxes, mean over the images with a face in both."""
    in_both: float
    """Images with a face in both, as a share of those with one in either."""
    seen: float
    """Share of the images that the detector saw."""


def agreement(videos: Sequence[Video], detector: FaceDetector, every: int = EVERY) -> Agreement:
    """Compare both ways, image by image; raises SystemExit where no image shows a face."""
    ratios: list[float] = []
    n_either, n_images = 0, sum(len(video.images) for video in videos)
    counted = OneByOne(detector)
    for video in videos:
        whole, followed = table_of(scan(video, detector)), table_of(scan(video, counted, every))
        there = [
            table["row"] >= 0 if table else np.zeros(len(video.images), bool)
            for table in (whole, followed)
        ]
        n_either += int((there[0] | there[1]).sum())
        if whole and followed:
            both = there[0] & there[1]
            ratios += np.diagonal(overlaps(whole["box"][both], followed["box"][both])).tolist()
    if not ratios:
        raise SystemExit("no image shows a face, in both ways to find them")
    return Agreement(float(np.mean(ratios)), len(ratios) / n_either, counted.n_images / n_images)
