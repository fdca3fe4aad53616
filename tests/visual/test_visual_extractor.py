"""The visual extractor's numbers, recipes and borders."""

from dataclasses import replace

import numpy as np
import pytest
from extractor_contract import relative
from visual.clip_folders import N_BLOCKS, PROJECTED, Reference, save_clip
from visual.face_scenes import scene, video

from extractors.contract import ClipFailed, ExtractorRequest, Source, Want
from extractors.table import build_extractor
from extractors.visual.clip import EMBED
from extractors.visual.extractor import VisualExtractor
from mer_store.errors import UsageError

TINY = ExtractorRequest("visual", model="tiny", device="cpu", compute_dtype="float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("models") / "clip-small")


@pytest.fixture(scope="module")
def request_(folder):
    return replace(TINY, model=str(folder))


def stored(root, name, n, seed=0):
    """Write OpenFace crops in the processor's own size, so that pixels are identical to the last bit."""
    crops = np.random.default_rng(seed).integers(0, 255, (n, 64, 64, 3), np.uint8)
    path = root / "openface_face" / name / f"{name}.npy"
    path.parent.mkdir(parents=True)
    np.save(path, crops)
    return Source(name, root / "video" / f"{name}.mp4"), crops


def load(extractor, source):
    return extractor.load(extractor.open(source))


@pytest.mark.parametrize("recipe", ["mertools2024", "mertools2023"])
def test_mertools_recipes_equal_clip_run_clip_by_clip(folder, request_, tmp_path, recipe):
    """What the baseline does: crops from BGR to RGB, every one, image features, mean over time."""
    extractor = VisualExtractor(replace(request_, recipe=recipe))
    made = [stored(tmp_path, f"clip_{n}", n, seed=n) for n in (3, 41, 1)]
    loaded = [load(extractor, source) for source, _ in made]
    outcomes = extractor(loaded, Want((EMBED,), (EMBED,)))
    reference = Reference(folder)
    for states, (_, crops) in zip(outcomes, made, strict=True):
        expected = reference.embed(crops[..., ::-1])
        assert relative(states.frame[EMBED], expected) <= 1e-5
        assert relative(states.utterance[EMBED], expected.mean(axis=0)) <= 1e-5


def test_long_clip_goes_through_in_pieces_and_short_ones_together(request_, tmp_path, monkeypatch):
    extractor = VisualExtractor(replace(request_, recipe="mertools2024"))
    loaded = [load(extractor, stored(tmp_path, f"clip_{n}", n)[0]) for n in (70, 5, 6)]
    want = Want((EMBED, 2), (EMBED,))
    whole = extractor(loaded, want)
    sizes, tower = [], extractor._tower

    def counting(pixels, layers):
        sizes.append(len(pixels))
        return tower(pixels, layers)

    monkeypatch.setattr(extractor, "_tower", counting)
    monkeypatch.setattr(extractor, "batch_limit", 16)
    pieces = extractor(loaded, want)
    assert sizes == [16, 16, 16, 16, 11, 6]
    for one, other in zip(whole, pieces, strict=True):
        assert relative(other.utterance[2], one.utterance[2]) <= 1e-5
        assert relative(other.frame[EMBED], one.frame[EMBED]) <= 1e-5


def test_clip_that_breaks_in_the_call_leaves_the_others_alone(tmp_path):
    """A video too long to hold is decoded again in the call; by then its file has changed."""
    extractor = VisualExtractor(TINY)
    extractor._faces._max_held = 2
    faces = [scene([(80, 40, 160)])]
    whole = load(extractor, Source("whole", video(tmp_path / "whole.mp4", faces * 4)))
    cut = load(extractor, Source("cut", video(tmp_path / "cut.mp4", faces * 5)))
    blob = cut.payload.crops.blob
    other = extractor.open(Source("cut", video(tmp_path / "other.mp4", faces * 3)))
    crops = replace(cut.payload.crops, blob=replace(blob, data=other.data))
    cut = replace(cut, payload=replace(cut.payload, crops=crops))
    first, broken, last = extractor([whole, cut, whole], Want((EMBED,)))
    assert isinstance(broken, ClipFailed)
    assert np.array_equal(first.utterance[EMBED], last.utterance[EMBED])


def test_rows_are_the_images_that_show_the_face(request_, tmp_path):
    images = [scene([(80, 40, 160)])] * 2 + [scene([])] + [scene([(90, 40, 160)])]
    extractor = VisualExtractor(request_)
    loaded = load(extractor, Source("clip", video(tmp_path / "clip.mp4", images)))
    [states] = extractor([loaded], Want(frame=(EMBED,)))
    assert loaded.size == loaded.n_frames == 3
    assert states.frame[EMBED].shape == (3, PROJECTED)
    assert list(states.tables["images"]["row"]) == [0, 1, -1, 2]


def test_identity_tells_apart_whatever_changes_numbers(request_, tmp_path):
    other = str(save_clip(tmp_path / "other", seed=1))
    identities = [
        VisualExtractor(request).identity
        for request in (
            request_,
            replace(request_, images_per_second=5),
            replace(request_, faces="openface"),
            replace(request_, model=other),
            replace(request_, compute_dtype="bfloat16"),
            replace(request_, recipe="mertools2024"),
        )
    ]
    seen = [(i.weights, str(i.preprocessing), i.compute_dtype, i.recipe) for i in identities]
    assert len(set(seen)) == len(seen)


def test_identity_of_a_checkpoint(request_):
    identity = build_extractor(request_).identity
    assert identity.model == "clip-small"
    assert identity.trained
    assert identity.layers == (*range(N_BLOCKS + 1), EMBED)
    assert identity.default_layers == (EMBED,)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"recipe": "mertools1999"}, "'mertools1999': visual has default, mertools2024"),
        (
            {"recipe": "mertools2024", "faces": "centerface"},
            "its faces are openface, got 'centerface'",
        ),
        ({"recipe": "mertools2024", "images_per_second": 5.0}, "have no times"),
        ({"faces": "haar"}, "expected one of centerface, pyfeat, openface"),
        ({"device": "cuda:7"}, "torch sees"),
        ({"model": "./no/such"}, "no such folder"),
    ],
)
def test_wrong_requests_say_what_is_right(changes, words):
    with pytest.raises(UsageError, match=words):
        VisualExtractor(replace(TINY, **changes))


def test_pyfeat_without_the_extra_says_how_to_get_it():
    with pytest.raises(UsageError, match=r"pip install mer-store\[pyfeat\] on a CUDA install"):
        VisualExtractor(replace(TINY, faces="pyfeat"))


def test_clip_without_a_path_fails():
    with pytest.raises(ClipFailed, match="no path in the clip list"):
        VisualExtractor(TINY).open(Source("clip", text="only words"))
