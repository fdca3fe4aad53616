"""Face crops kept in the store: another model needs no video, and the spec says what they are."""

from dataclasses import replace

import numpy as np
import pytest

from extractors.contract import ExtractorRequest
from mer_store.clips.clip_list import Clip, ClipList
from mer_store.errors import UsageError
from mer_store.store.store import Store
from mer_store.store.verify import verify
from pipelines.extract import ExtractSettings, Stream, prepare

TINY = ExtractorRequest("visual", "tiny", device="cpu", images_per_second=2.0)


@pytest.fixture
def clips(any_media, tmp_path):
    """Return clips with a face and one without, as files that can be taken away."""
    found = []
    for name in ("woman.mp4", "nobody.mp4"):
        path = tmp_path / name
        path.write_bytes(any_media[name].read_bytes())
        found.append(Clip(name.partition(".")[0], path, None, None, None, None))
    return found


def run(store, clips, request, **settings):
    settings = ExtractSettings(request, n_decoders=1, level="both", **settings)
    return prepare(store, ClipList(tuple(clips)), settings).run()


def rows(store):
    features = store.features("visual", level="frame")
    [values] = features.ragged(["embed"], ["woman"])
    return features.spec, values


@pytest.mark.parametrize("kind", ["uint8", "jpeg"])
def test_what_comes_of_kept_crops(clips, tmp_path, kind):
    first, second = Store.create(tmp_path / "first"), Store.create(tmp_path / "second")
    crops = Stream(replace(TINY, model=f"crops:{kind}"))
    report = run(first, clips, TINY, others=(crops,))
    assert (report.tally.n_ok, report.tally.n_empty) == (1, 1)
    assert set(report.reasons) == {"visual: no face", "crops: no face"}
    assert verify(first, deep=True) == []
    run(second, clips, crops.request)
    for clip in clips:
        clip.path.unlink()
    report = run(second, clips, replace(TINY, faces="crops"))
    assert (report.tally.n_ok, report.tally.n_empty) == (1, 1)
    (spec, values), (other_spec, others) = rows(first), rows(second)
    assert values.shape == others.shape
    if kind == "uint8":
        assert spec == other_spec
        np.testing.assert_array_equal(values, others)
    else:
        assert other_spec.preprocessing["faces"]["crops"] == {"format": "jpeg", "quality": 95}
        away = np.linalg.norm(values.astype(float) - others) / np.linalg.norm(values.astype(float))
        assert 0 < away < 0.1


def test_crops_are_no_features(clips, tmp_path):
    store = Store.create(tmp_path / "store")
    run(store, clips, replace(TINY, model="crops"))
    with pytest.raises(UsageError, match="no feature set fits"):
        store.features("visual")
    held = store.features("visual", model="crops")
    assert (held.spec.stored_dtype, held.spec.level) == ("uint8", "frame")
    [table] = held.table("images", ["woman"])
    assert ((table["n_bytes"] > 0) == (table["row"] >= 0)).all()


def test_without_kept_crops_they_cannot_be_taken(clips, tmp_path):
    with pytest.raises(UsageError, match="--model crops"):
        run(Store.create(tmp_path / "store"), clips, replace(TINY, faces="crops"))


def test_other_media_than_those_of_the_crops_fail(clips, tmp_path, any_media):
    store = Store.create(tmp_path / "store")
    run(store, clips, replace(TINY, model="crops"))
    clips[0].path.write_bytes(any_media["smile.mp4"].read_bytes())
    report = run(store, clips[:1], replace(TINY, faces="crops"))
    assert report.examples == [
        ("woman", "no stored crops of these media: run extract --modality visual --model crops")
    ]
