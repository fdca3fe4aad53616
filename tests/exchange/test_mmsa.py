"""MMSA's ``.pkl``: what its data loader takes, under names that NumPy 1 knows."""

import pickle
import pickletools

import numpy as np
import pytest
from part_factory import digest_of, make_set, ok_clip, values_of, write_part

from mer_store.clips.clip_list import Clip, ClipList
from mer_store.errors import UsageError
from mer_store.store.store import Store
from mer_store.store.writer import ClipRows
from pipelines.exchange.mmsa import export_mmsa
from pipelines.exchange.options import ExportOptions

IDS = [f"clip{number}" for number in range(12)]
WORDS = ["neutral", "angry", "happiness"]
NAMES = {"audio": "audio", "visual": "vision", "text": "text"}


def make_store(path, level="utterance", without=()):
    for modality in NAMES:
        feature_set = make_set(path, level, modality=modality)
        clips = [
            ok_clip(clip_id, (1, 2), 1 if level == "utterance" else 1 + number % 3)
            for number, clip_id in enumerate(IDS)
            if (modality, clip_id) not in without
        ]
        clips += [
            ClipRows(clip_id, status, "no face", digest_of(clip_id))
            for (of, clip_id), status in dict(without).items()
            if of == modality
        ]
        write_part(feature_set, clips, (1, 2))
    return Store.open(path)


def listed(label=lambda number: WORDS[number % 3], **columns):
    return ClipList(
        tuple(
            Clip(
                clip_id,
                text=f"言 {number}",
                label=label(number),
                **{name: give(number) for name, give in columns.items()},
            )
            for number, clip_id in enumerate(IDS)
        )
    )


def in_folds():
    return listed(fold=lambda number: number % 4)


def export(store, clip_list, to, **options):
    options = {"layers": None, **options}
    return export_mmsa(store, clip_list, to, ExportOptions(**options))


def load(path):
    """Read as MMSA does: a plain load of the file."""
    with path.open("rb") as file:
        return pickle.load(file)  # noqa: S301 - our own


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "store")


def one_layer(path, level="utterance"):
    for modality in NAMES:
        feature_set = make_set(path, level, modality=modality)
        lengths = {c: 1 if level == "utterance" else 1 + n % 3 for n, c in enumerate(IDS)}
        write_part(feature_set, lengths, ("embed",))
    return Store.open(path)


def test_what_the_loader_takes(tmp_path):
    to = tmp_path / "mmsa.pkl"
    assert export(one_layer(tmp_path / "store"), in_folds(), to) == 0
    data = load(to)
    assert list(data) == ["train", "valid", "test"]
    assert data["valid"]["id"] == ["clip0", "clip4", "clip8"]
    assert data["test"]["id"] == ["clip1", "clip5", "clip9"]
    train = data["train"]
    assert len(train["id"]) == 6
    assert train["raw_text"][0] == "言 2"
    assert train["annotations"][:2] == ["happiness", "neutral"]
    assert train["classification_labels"].tolist()[:2] == [2, 0]
    assert train["regression_labels"].dtype == np.float32
    assert train["audio_lengths"] == train["vision_lengths"] == [1] * 6
    for name in NAMES.values():
        assert (train[name].shape, train[name].dtype) == ((6, 1, 4), np.float32)
        expected = values_of("clip2", "embed", 1)
        np.testing.assert_array_equal(train[name][0], expected)


def test_frames_are_padded_at_the_end(tmp_path):
    to = tmp_path / "mmsa.pkl"
    assert export(one_layer(tmp_path / "store", "frame"), in_folds(), to, level="frame") == 0
    train = load(to)["train"]
    assert train["id"][:2] == ["clip2", "clip3"]
    assert train["audio"].shape == (6, 3, 4)
    assert train["audio_lengths"] == [3, 1, 1, 2, 2, 3]
    np.testing.assert_array_equal(train["audio"][1, :1], values_of("clip3", "embed", 1))
    assert not train["audio"][1, 1:].any()


def test_several_layers_are_summed(store, tmp_path):
    to = tmp_path / "mmsa.pkl"
    assert export(store, in_folds(), to, modality="audio", layers="1-2") == 0
    train = load(to)["train"]
    assert "vision" not in train
    summed = values_of("clip2", 1, 1) + values_of("clip2", 2, 1)
    np.testing.assert_array_equal(train["audio"][0], summed)


def test_numpy_1_knows_every_name(store, tmp_path):
    to = tmp_path / "mmsa.pkl"
    export(store, in_folds(), to, modality="audio", layers="1")
    opcodes = list(pickletools.genops(to.read_bytes()))
    assert opcodes[0][1] == 4
    named = {argument for code, argument, _ in opcodes if code.name == "GLOBAL"}
    texts = [argument for _, argument, _ in opcodes if isinstance(argument, str)]
    assert "numpy.core.multiarray _reconstruct" in named
    assert not any("numpy._core" in text for text in texts)


def test_numbers_as_labels(store, tmp_path):
    to = tmp_path / "mmsa.pkl"
    clip_list = listed(lambda number: str(number / 4 - 1), fold=lambda number: number % 4)
    export(store, clip_list, to, modality="audio", layers="1")
    train = load(to)["train"]
    assert train["regression_labels"].tolist()[:2] == [-0.5, -0.25]
    assert train["classification_labels"].tolist() == [0, 0, 2, 2, 2, 2]
    assert train["annotations"][0] == "Negative"


def test_labelled_test_clips_are_the_test_split(store, tmp_path):
    to = tmp_path / "mmsa.pkl"
    clip_list = listed(
        lambda number: WORDS[number % 3] if number != 11 else None,
        split=lambda number: "test" if number > 8 else "labelled",
    )
    export(store, clip_list, to, modality="audio", layers="1")
    data = load(to)
    assert data["test"]["id"] == ["clip9", "clip10"]
    assert len(data["valid"]["id"]) == 2  # two of nine, dealt by class
    assert len(data["train"]["id"]) == 7


def test_folds_that_are_dealt_do_not_depend_on_the_order(store, tmp_path):
    clip_list = listed()
    back = ClipList(clip_list.clips[::-1])
    for name, clips in (("a", clip_list), ("b", back)):
        export(store, clips, tmp_path / name, modality="audio", layers="1")
    a, b = load(tmp_path / "a"), load(tmp_path / "b")
    for split in ("train", "valid", "test"):
        assert a[split]["id"]
        assert sorted(a[split]["id"]) == sorted(b[split]["id"])


@pytest.mark.parametrize(
    ("policy", "status", "code", "n_clips"),
    [("zeros", "empty", 0, 12), ("skip", "empty", 0, 11), ("skip", "failed", 1, 11)],
)
def test_clips_without_features(tmp_path, policy, status, code, n_clips):
    store = make_store(tmp_path / "store", without={("visual", "clip2"): status})
    to = tmp_path / "mmsa.pkl"
    options = {"modality": "visual", "layers": "1"}
    with pytest.raises(UsageError, match="1 of 12 clips have no features"):
        export(store, in_folds(), to, **options)
    assert not to.exists()
    assert export(store, in_folds(), to, policy=policy, **options) == code
    data = load(to)
    assert sum(len(split["id"]) for split in data.values()) == n_clips
    if policy == "zeros":
        assert data["train"]["id"][0] == "clip2"
        assert not data["train"]["vision"][0].any()


@pytest.mark.parametrize(
    ("clip_list", "options", "said"),
    [
        (None, {}, "needs labels"),
        (listed(lambda number: None), {}, "needs labels"),
        (in_folds(), {"layers": "1"}, "give --modality"),
        (in_folds(), {"name": "x"}, "--name"),
        (in_folds(), {"modality": "audio", "layers": "7"}, "no layer 7"),
        (in_folds(), {"modality": "audio"}, "is not known; name them with --layers"),
        (
            listed(fold=lambda n: n or None),
            {"modality": "audio", "layers": "1"},
            "1 labelled clips have no fold, e.g. clip0",
        ),
        (
            listed(fold=lambda n: 3),
            {"modality": "audio", "layers": "1"},
            "no clip for valid and test",
        ),
    ],
)
def test_what_cannot_be_written_is_said(store, tmp_path, clip_list, options, said):
    with pytest.raises(UsageError, match=said):
        export(store, clip_list, tmp_path / "mmsa.pkl", **options)
    assert not (tmp_path / "mmsa.pkl").exists()


def test_a_modality_that_is_not_there(tmp_path):
    feature_set = make_set(tmp_path / "store", "utterance")
    write_part(feature_set, dict.fromkeys(IDS, 1), (1,))
    with pytest.raises(UsageError, match="no feature set fits modality=visual"):
        export(Store.open(tmp_path / "store"), in_folds(), tmp_path / "mmsa.pkl")
