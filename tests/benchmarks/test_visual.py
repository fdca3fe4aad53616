"""The script that measures the visual path runs from end to end; what it compares faces by is right."""

import re
import sys

import numpy as np
import pytest
from benchmarks.script_runs import BENCHMARKS, figures, run

sys.path.insert(0, str(BENCHMARKS))

from visual_clips import Video
from visual_faces import agreement, cut_crops, scan, table_of

from extractors.media.images import Image
from extractors.visual.faces.detector import N_POINTS, Detections

SIDE = 40.0


def lines(text):
    """Return what each line of the tables says: name -> ratio."""
    found = re.findall(r"^  (\S.*?) +[\d,.]+ images/s +([\d.]+) x$", text, re.MULTILINE)
    return {name: float(value) for name, value in found}


def test_every_stage_has_its_line(tmp_path):
    options = "--clips 2 --seconds 0.4 --rounds 1".split()
    text = run("visual_path.py", *options, "--folder", str(tmp_path))
    ratios = lines(text)
    assert len(ratios) == 7 + 2 + 2  # the two sizes of crops have lines of the same names
    assert ratios["detect in every image, one a call"] == 1
    assert min(ratios.values()) > 0
    share = re.search(r"sees (\d+)% .* \(IoU\) ([\d.]+) .* in both in ([\d.]+)% ", text)
    seen, overlap, in_both = map(float, share.groups())
    assert 20 <= seen < 100
    assert 0.5 < overlap <= 1
    assert in_both > 50
    found = figures(text)
    assert [name for name in found if "as fast as from the video" in name and found[name] > 0]
    assert [value for name, value in found.items() if name.startswith("crops of 224 px")] == [0]
    assert len(re.findall(r"stored as (?:jpeg|uint8) .* bytes a clip", text)) == 2
    assert list(tmp_path.iterdir()) == [], "it tidies up"


class Detector:
    """Knows where the face is by the image's first pixel: there, or nowhere where it is None."""

    def __init__(self, lefts):
        self.lefts, self.settings = lefts, {"name": "fake"}

    def __call__(self, images):
        return [self._faces(self.lefts[int(image[0, 0, 0])]) for image in images]

    def _faces(self, left):
        if left is None:
            return Detections.none()
        box = np.array([[left, 30, left + SIDE, 30 + SIDE]], np.float32)
        points = np.tile(box[:, None, :2] + SIDE / 2, (1, N_POINTS, 1))
        return Detections(box, np.full(1, 0.9, np.float32), points)


def video(n_images):
    images = [np.full((120, 200, 3), number, np.uint8) for number in range(n_images)]
    return Video(None, [Image(number / 25, image) for number, image in enumerate(images)])


def test_a_face_that_moves_evenly_overlaps_wholly():
    near = agreement([video(11)], Detector([10 + 2 * number for number in range(11)]))
    assert (near.overlap, near.in_both) == pytest.approx((1.0, 1.0), abs=1e-4)
    assert near.seen == pytest.approx(3 / 11)


def test_a_step_aside_is_seen_in_the_overlap():
    """Of 6 images the 4 between are followed; the face is elsewhere in two of them."""
    lefts = [10.0, 10.0, 10.0 + SIDE / 2, 10.0 + SIDE / 2, 10.0, 10.0]
    near = agreement([video(6)], Detector(lefts))
    assert near.overlap == pytest.approx((4 * 1 + 2 / 3) / 6, abs=1e-4)


def test_a_face_that_is_missed_counts_against_them():
    """A face that blinks out between two images that the detector sees is followed all the same."""
    lefts = [10.0, 10.0, None, 10.0, 10.0, 10.0]
    near = agreement([video(6)], Detector(lefts))
    assert near.in_both == pytest.approx(5 / 6)


def test_nobody_is_no_agreement():
    with pytest.raises(SystemExit, match="no image shows a face"):
        agreement([video(6)], Detector([None] * 6))


def test_crops_are_those_of_the_images_with_a_face():
    clips, detector = [video(4), video(2)], Detector([None, 10.0, 10.0, 10.0])
    tables = [table_of(scan(clip, detector)) for clip in clips]
    crops = cut_crops(clips, tables, 16)
    assert crops.shape == (4, 16, 16, 3)
    assert crops[:, 8, 8, 0].tolist() == [1, 2, 3, 1]
