"""Real people in real videos, fetched by pip: as many faces as anybody sees, one person followed."""

import numpy as np
import pytest
from visual.face_scenes import blob

from extractors.contract import ClipEmpty
from extractors.visual.faces.boxes import centres
from extractors.visual.faces.centerface import CenterFace
from extractors.visual.faces.video import VideoFaces

pytestmark = pytest.mark.real_media

IMAGES_PER_SECOND = 5


@pytest.fixture(scope="module")
def faces():
    return VideoFaces(CenterFace(), 224, IMAGES_PER_SECOND)


def test_of_two_people_the_speaker_in_the_middle_is_chosen(faces, real_media):
    """He stands in front; the other, at the left, never is in the table."""
    table = faces.find(blob(real_media["speech.mp4"])).table
    assert (table["n_faces"] == 2).all()
    assert (table["row"] == np.arange(len(table["row"]))).all()
    across = centres(table["box"])[:, 0]
    assert (across > 160).all()
    assert (across < 230).all()


@pytest.mark.parametrize("name", ["passenger.mp4", "woman.mp4", "smile.mp4"])
def test_one_person_is_seen_throughout(faces, real_media, name):
    """Talking, turning, with hands before the face."""
    table = faces.find(blob(real_media[name])).table
    assert (table["row"] >= 0).mean() >= 0.97
    assert (table["n_faces"] == 1).mean() >= 0.97
    assert np.ptp(np.diff(centres(table["box"][table["row"] >= 0]), axis=0)) < 150


@pytest.mark.parametrize(("name", "seen_first"), [("leaving.mov", True), ("coming.mov", False)])
def test_images_without_the_face_are_marked(faces, real_media, name, seen_first):
    seen = faces.find(blob(real_media[name])).table["row"] >= 0
    assert seen[0] == seen_first
    assert seen[-1] != seen_first
    assert np.abs(np.diff(seen.astype(int))).sum() == 1, "one change, no flicker"


def test_nobody(faces, real_media):
    with pytest.raises(ClipEmpty, match="no face: none in"):
        faces.find(blob(real_media["nobody.mp4"]))


def test_eyes_are_where_alignment_puts_them(real_media):
    """Found again in the crops: within 6 % of the crop's side, over a whole clip."""
    from extractors.visual.faces.align import EYES_APART, EYES_Y

    detector = CenterFace()
    clip = VideoFaces(detector, 224, IMAGES_PER_SECOND).find(blob(real_media["passenger.mp4"]))
    again = detector(next(clip.crops.chunks(100)))
    eyes = np.stack([found.points[0, :2] for found in again if len(found)]) / 224
    assert len(eyes) >= 0.9 * len(clip.crops)
    expected = [[0.5 - EYES_APART / 2, EYES_Y], [0.5 + EYES_APART / 2, EYES_Y]]
    assert np.abs(eyes - expected).max() < 0.06
