"""Finding the feature set that fits, or an error that lists what there is."""

import pytest
from part_factory import make_spec, write_part

from mer_store.errors import StoreDamagedError, UsageError
from mer_store.store.store import Store


@pytest.fixture
def store(tmp_path):
    store = Store.create(tmp_path)
    for spec, layers in (
        (make_spec("frame"), (15,)),
        (make_spec("utterance"), (16, 18)),
        (make_spec("utterance", recipe="mertools2024"), ("last4sum",)),
        (make_spec("utterance", modality="visual", model="clip", trained=True), ("embed",)),
    ):
        write_part(store.ensure(spec), {"a": 1}, layers)
    return store


def test_the_one_that_fits(store):
    assert store.features("visual").spec.model == "clip"
    assert store.features("audio", level="frame").layers == (15,)
    assert store.features("audio", recipe="mertools2024").layers == ("last4sum",)
    assert store.features("audio", layers=[18]).layers == (16, 18)
    wanted = store.features("audio", level="frame").spec.fingerprint
    assert store.features("audio", fingerprint=wanted[:6]).spec.level == "frame"
    assert store.features("audio", model="tiny", level="utterance", layers=[16, 18])


def test_none_or_several_fit(store):
    with pytest.raises(UsageError, match="no feature set fits modality=text") as caught:
        store.features("text")
    assert str(caught.value).count("\n") == 4
    with pytest.raises(
        UsageError, match="several feature sets fit modality=audio, level=utterance"
    ) as caught:
        store.features("audio", level="utterance")
    listed = str(caught.value).splitlines()[1:]
    assert len(listed) == 2
    assert all("recipe" in line and "random weights" in line for line in listed)
    assert "layers 16, 18" in str(caught.value)
    with pytest.raises(UsageError, match=r"no feature set fits .*layers=18-19"):
        store.features("audio", layers=[18, 19])


def test_an_empty_store_says_what_to_run(tmp_path):
    with pytest.raises(UsageError, match="nothing yet; run `mer-store extract`"):
        Store.create(tmp_path).features("audio")


def test_ensure_is_idempotent_and_verifies(store):
    spec = make_spec("frame")
    feature_set = store.ensure(spec)
    assert store.ensure(spec).path == feature_set.path
    feature_set._folders.spec.chmod(0o644)
    feature_set._folders.spec.write_text(make_spec("frame", recipe="other").to_json())
    with pytest.raises(StoreDamagedError, match=r"its spec\.json is of"):
        store.ensure(spec)
    with pytest.raises(StoreDamagedError, match=r"its spec\.json is of"):
        store.feature_sets()


def test_a_lost_spec_is_damage_not_absence(store):
    spec = make_spec("frame")
    store.ensure(spec)._folders.spec.unlink()
    with pytest.raises(StoreDamagedError, match="missing, yet parts are committed"):
        store.feature_sets()
    store.ensure(spec)
    assert len(store.feature_sets()) == 4


def test_a_folder_half_made_holds_nothing(store):
    (store.path / "features" / "audio" / "half" / "commits").mkdir(parents=True)
    (store.path / "features" / ".hidden").mkdir()
    assert len(store.feature_sets()) == 4
