"""The picture of what was found."""

import numpy as np
import pytest
from visual.face_scenes import blob, scene, timed, video

from extractors.visual.contact_sheet import BOX_COLOUR, draw_faces
from extractors.visual.faces.centerface import CenterFace
from extractors.visual.faces.video import VideoFaces
from mer_store.errors import UsageError

GAP, HEIGHT, WIDTH = 6, 120, 160


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Four images: a face in the first two."""
    images = [scene([(100, 40, 160)])] * 2 + [scene([])] * 2
    source = blob(video(tmp_path_factory.mktemp("sheet") / "clip.mp4", images))
    return source, VideoFaces(CenterFace(), 224).find(source).table


def cell(sheet, row, column):
    top, left = GAP + row * (HEIGHT + GAP), GAP + column * (WIDTH + HEIGHT + GAP)
    return sheet[top : top + HEIGHT, left : left + WIDTH + HEIGHT]


def test_images_with_box_and_crop_and_dimmed_ones_without(found):
    source, table = found
    sheet = draw_faces(source, table, n_columns=2)
    assert sheet.shape == (2 * (HEIGHT + GAP) + GAP, 2 * (WIDTH + HEIGHT + GAP) + GAP, 3)
    assert sheet.dtype == np.uint8
    seen, unseen = cell(sheet, 0, 0), cell(sheet, 1, 0)
    assert (seen == BOX_COLOUR).all(axis=-1).sum() > 100
    assert not (unseen == BOX_COLOUR).all(axis=-1).any()
    assert np.ptp(seen[:, WIDTH:]) > 100  # the crop: a face
    assert np.ptp(unseen[:, WIDTH:]) == 0  # nothing
    assert np.median(unseen[:, :WIDTH]) < 0.5 * np.median(seen[:60, :20])


def test_few_of_many_images_first_and_last_among_them(found):
    source, table = found
    assert draw_faces(source, table, n_images=2, n_columns=1).shape[0] == 2 * (HEIGHT + GAP) + GAP


def test_images_may_be_given_decoded(found):
    _, table = found
    images = timed([scene([(100, 40, 160)])] * 2 + [scene([])] * 2)
    assert draw_faces(images, table).ndim == 3


def test_other_images_than_the_tables_are_refused(found):
    source, table = found
    with pytest.raises(UsageError, match="the table has 4 images, the video 1"):
        draw_faces(source, table, images_per_second=5)
