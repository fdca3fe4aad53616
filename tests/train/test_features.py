"""Features for a roster: read where they are, known to be absent where they are not."""

import numpy as np
import pytest
from part_factory import make_set, ok_clip, values_of, write_part

from mer_store.clips.clip_list import Clip
from mer_store.errors import UsageError
from mer_store.store.store import Store
from mer_store.store.writer import ClipRows
from pipelines.train.choices import FeatureChoice
from pipelines.train.features import open_features
from pipelines.train.roster import make_roster

LAYERS = (16, 17, 18)


@pytest.fixture
def store(tmp_path):
    feature_set = make_set(tmp_path / "store", "utterance")
    write_part(feature_set, [ok_clip(name, LAYERS, 1) for name in ("c", "a")], LAYERS)
    empty = ClipRows("b", "empty", "no audio track", digest="sha256:b")
    write_part(feature_set, [ok_clip("d", LAYERS, 1), empty], LAYERS)
    return Store.open(tmp_path / "store")


def roster_of(names):
    return make_roster([Clip(name, label="anger") for name in names], ("neutral", "anger"))


def test_values_come_in_the_roster_s_order(store):
    features = open_features(store, "audio", FeatureChoice(layers="18,16"), roster_of("dbxac"))
    assert features.layers == (16, 18)
    assert features.there.tolist() == [True, False, False, True, True]
    assert sorted(features.row.tolist()) == [-1, -1, 0, 1, 2]
    assert (features.values.shape, features.width) == ((3, 2, 4), 4)
    for name, row in zip("dac", features.values[features.row[[0, 3, 4]]], strict=True):
        assert (row == np.stack([values_of(name, layer, 1)[0] for layer in (16, 18)])).all()


@pytest.mark.parametrize(("combine", "scale"), [("sum", 3.0), ("mean", 1.0)])
def test_layers_are_combined_in_float32(store, combine, scale):
    features = open_features(store, "audio", FeatureChoice(), roster_of("ad"), combine)
    expected = [
        np.mean([values_of(name, layer, 1)[0] for layer in LAYERS], axis=0) * scale for name in "ad"
    ]
    assert features.values.dtype == np.float32
    assert features.values[features.row, 0] == pytest.approx(np.array(expected), rel=1e-6)


def test_the_digest_follows_what_decides_the_values(store, tmp_path):
    def digest(names="acd", layers="18", combine="each"):
        return open_features(
            store, "audio", FeatureChoice(layers=layers), roster_of(names), combine
        ).digest

    assert digest() == digest()
    assert len({digest(), digest("ac"), digest(layers="17"), digest(layers="16-18")}) == 4
    assert digest(layers="16-18") != digest(layers="16-18", combine="mean")
    before = digest()
    changed = ok_clip("a", LAYERS, 1, seed=1, digest="sha256:changed")
    write_part(make_set(tmp_path / "store", "utterance"), [changed], LAYERS, attempt=1)
    assert digest() != before
    assert digest("cd") == digest("cd")


def test_what_is_not_there_is_said(store):
    with pytest.raises(UsageError, match="no feature set fits modality=visual"):
        open_features(store, "visual", FeatureChoice(), roster_of("a"))
    with pytest.raises(UsageError, match="no layer 24"):
        open_features(store, "audio", FeatureChoice(layers="24"), roster_of("a"))
    with pytest.raises(UsageError, match="of none of the 2 clips"):
        open_features(store, "audio", FeatureChoice(layers="18"), roster_of("xy"))
