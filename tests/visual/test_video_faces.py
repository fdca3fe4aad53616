"""From a video to one person's crops and the table of its images."""

import dataclasses

import numpy as np
import pytest
from visual.face_scenes import blob, scene, video

from extractors.contract import ClipEmpty, ClipFailed
from extractors.visual.faces.align import crop_face
from extractors.visual.faces.centerface import CenterFace
from extractors.visual.faces.crops import DecodedAgain, HeldCrops
from extractors.visual.faces.detector import Detections
from extractors.visual.faces.video import VideoFaces

SIDE = 96


@pytest.fixture(scope="module")
def detector():
    return CenterFace()


@pytest.fixture(scope="module")
def comes_and_goes(tmp_path_factory):
    """12 images: a face in all but 4-6, moving; from 8 on a second, smaller one in the corner."""
    images = []
    for i in range(12):
        main = [] if 4 <= i <= 6 else [(80 + 4 * i, 40, 150)]
        other = [(0, 150, 80, True)] if i >= 8 else []
        images.append(scene(main + other))
    return video(tmp_path_factory.mktemp("scenes") / "goes.mp4", images)


def stack(crops):
    return np.concatenate(list(crops.chunks(5)))


def test_table_tells_of_every_image(detector, comes_and_goes):
    clip = VideoFaces(detector, SIDE).find(blob(comes_and_goes))
    table = clip.table
    assert list(table["row"]) == [0, 1, 2, 3, -1, -1, -1, 4, 5, 6, 7, 8]
    assert list(table["n_faces"]) == [1] * 4 + [0] * 3 + [1] + [2] * 4
    np.testing.assert_allclose(table["time_s"], np.arange(12) / 25, atol=1e-9)
    assert clip.media_s == pytest.approx(12 / 25)
    unseen = table["row"] < 0
    for column in ("box", "points", "score"):
        assert (table[column][unseen] == 0).all()
        assert np.isfinite(table[column]).all()
    assert (table["score"][~unseen] > 0.5).all()
    assert {name: column.dtype for name, column in table.items()} == {
        "time_s": np.float64, "box": np.float32, "points": np.float32,
        "score": np.float32, "n_faces": np.int16, "row": np.int32,
    }  # fmt: skip


def test_second_person_never_replaces_the_chosen_one(detector, comes_and_goes):
    table = VideoFaces(detector, SIDE).find(blob(comes_and_goes)).table
    boxes = table["box"][table["row"] >= 0]
    assert (boxes[:, 2] - boxes[:, 0] > 60).all()
    assert (np.diff(boxes[:, 0]) > 0).all()


def test_crops_are_those_of_the_boxes(detector, comes_and_goes):
    from extractors.media.images import decode_images

    source = blob(comes_and_goes)
    clip = VideoFaces(detector, SIDE).find(source)
    images = [image.rgb for image in decode_images(source)]
    seen = np.flatnonzero(clip.table["row"] >= 0)
    crops = stack(clip.crops)
    assert crops.shape == (len(clip.crops), SIDE, SIDE, 3)
    for crop, index in zip(crops, seen, strict=True):
        box, points = clip.table["box"][index], clip.table["points"][index].reshape(-1, 2)
        assert np.array_equal(crop, crop_face(images[index], box, points, SIDE))


@pytest.mark.parametrize(
    ("max_held", "kind"),
    [
        pytest.param(13, HeldCrops, id="all candidates held"),
        pytest.param(12, HeldCrops, id="too many candidates: second pass at once"),
        pytest.param(8, DecodedAgain, id="too many chosen: second pass in the model's call"),
    ],
)
def test_long_clips_give_the_same_crops(detector, comes_and_goes, max_held, kind):
    """13 faces are found, 9 are of the chosen person."""
    held = VideoFaces(detector, SIDE).find(blob(comes_and_goes))
    bounded = VideoFaces(detector, SIDE, max_held_crops=max_held).find(blob(comes_and_goes))
    assert isinstance(bounded.crops, kind)
    assert len(bounded.crops) == 9
    assert np.array_equal(stack(bounded.crops), stack(held.crops))
    assert [len(part) for part in bounded.crops.chunks(4)] == [4, 4, 1]


def test_too_many_candidates_are_not_held(comes_and_goes, monkeypatch):
    """A crowd: once the limit is reached no further crop is even made in the first pass."""
    from extractors.visual.faces import align

    made = []
    monkeypatch.setattr(
        align, "crop_face", lambda *_: made.append(1) or np.zeros((8, 8, 3), np.uint8)
    )

    class Crowd:
        def __call__(self, images):
            boxes = np.array(
                [[10 * i, 10 * i, 10 * i + 9, 10 * i + 9] for i in range(20)], np.float32
            )
            return [
                Detections(boxes, np.ones(20, np.float32), np.zeros((20, 5, 2), np.float32))
            ] * len(images)

    VideoFaces(Crowd(), SIDE, max_held_crops=50).find(blob(comes_and_goes))
    assert len(made) <= 50


def test_video_that_became_another_one_fails(detector, comes_and_goes, tmp_path):
    clip = VideoFaces(detector, SIDE, max_held_crops=2).find(blob(comes_and_goes))
    shorter = blob(video(tmp_path / "shorter.mp4", [scene([(80, 40, 150)])] * 7))
    with pytest.raises(ClipFailed, match="another number of images"):
        stack(dataclasses.replace(clip.crops, blob=shorter))


def test_images_per_second(detector, comes_and_goes):
    clip = VideoFaces(detector, SIDE, images_per_second=5).find(blob(comes_and_goes))
    np.testing.assert_allclose(clip.table["time_s"], [0, 0.2, 0.4])
    assert list(clip.table["row"]) == [0, -1, 1]


def test_nobody_is_empty_and_says_of_how_many_images(detector, tmp_path):
    with pytest.raises(ClipEmpty, match=r"^no face: none in 6 images$"):
        VideoFaces(detector, SIDE).find(blob(video(tmp_path / "none.mp4", [scene([])] * 6)))


def test_settings_name_all_that_decides_the_crops(detector):
    settings = VideoFaces(detector, SIDE, images_per_second=5).settings
    assert settings["crop_px"] == SIDE
    assert settings["images_per_second"] == 5
    assert {"detector", "track", "align", "images"} <= settings.keys()
