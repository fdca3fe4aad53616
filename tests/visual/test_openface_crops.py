"""Crops that OpenFace stored, as MERTools lays them out."""

from pathlib import Path

import numpy as np
import pytest

from extractors.contract import ClipEmpty, ClipFailed, Source
from extractors.media import blob as blobs
from extractors.visual.faces.openface import OpenFaceCrops
from mer_store.errors import UsageError


def stored(tmp_path, array, name="clip.npy"):
    np.save(tmp_path / name, array, allow_pickle=True)
    return blobs.read_blob("clip", tmp_path / name)


def some_crops(n=5):
    return np.random.default_rng(0).integers(0, 255, (n, 112, 112, 3), np.uint8)


def test_file_lies_beside_the_videos_folder():
    source = Source("sample_1", Path("/data/process/video/sample_1.mp4"))
    expected = Path("/data/process/openface_face/sample_1/sample_1.npy")
    assert OpenFaceCrops().path(source) == expected


def test_clip_list_may_name_the_array_itself():
    assert OpenFaceCrops().path(Source("a", Path("x/a.npy"))) == Path("x/a.npy")
    assert OpenFaceCrops().path(Source("a")) is None


def test_blue_comes_first_in_the_file_and_red_in_what_is_given(tmp_path):
    crops = some_crops()
    clip = OpenFaceCrops().find(stored(tmp_path, crops))
    assert len(clip.crops) == 5
    assert clip.table is None
    parts = list(clip.crops.chunks(2))
    assert [len(part) for part in parts] == [2, 2, 1]
    assert np.array_equal(np.concatenate(parts), crops[..., ::-1])


def test_large_file_is_mapped_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(blobs, "MAX_HELD_BYTES", 1000)
    crops = some_crops()
    blob = stored(tmp_path, crops)
    assert blob.data is None
    clip = OpenFaceCrops().find(blob)
    assert isinstance(clip.crops.images, np.memmap)
    assert np.array_equal(next(clip.crops.chunks(9)), crops[..., ::-1])


@pytest.mark.parametrize("array", [np.zeros(0), np.zeros((0, 112, 112, 3), np.uint8)])
def test_no_face(tmp_path, array):
    with pytest.raises(ClipEmpty, match="no face"):
        OpenFaceCrops().find(stored(tmp_path, array))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 112, 100, 3), np.uint8),
        np.zeros((2, 112, 112, 3)),
        np.zeros((112, 112, 3), np.uint8),
        np.zeros(4, np.uint8),
    ],
)
def test_other_arrays_are_refused(tmp_path, array):
    with pytest.raises(ClipFailed, match=r"expected OpenFace crops, uint8 \[T, 112, 112, 3\]; got"):
        OpenFaceCrops().find(stored(tmp_path, array))


def test_pickled_objects_are_not_loaded(tmp_path):
    with pytest.raises(ClipFailed, match="Object arrays cannot be loaded"):
        OpenFaceCrops().find(stored(tmp_path, np.array([{"a": 1}], object)))


@pytest.mark.parametrize("keep", [60, 5000])
def test_truncated_and_foreign_files_fail(tmp_path, keep):
    path = tmp_path / "cut.npy"
    np.save(path, some_crops())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ClipFailed, match=r"not a \.npy array"):
        OpenFaceCrops().find(blobs.read_blob("clip", path))


def test_a_rate_cannot_be_asked_of_them():
    with pytest.raises(UsageError, match="have no times"):
        OpenFaceCrops(images_per_second=5)
