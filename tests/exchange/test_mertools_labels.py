"""``label-6way.npz``: words, order, corpora, and the names that NumPy 1 knows."""

import io
import pickle
import zipfile

import numpy as np

from mer_store.clips.clip_list import Clip
from mer_store.clips.corpus_npz import read_corpora
from mer_store.clips.mertools import from_mertools
from pipelines.exchange.mertools_labels import corpora_bytes, make_corpora

PAPER = ("neutral", "anger", "happiness", "sadness", "worry", "surprise")
WORDS = ("neutral", "angry", "happy", "sad", "worried", "surprise")


def test_words_and_order():
    clips = [Clip(f"z{9 - n}", label=label, split="labelled") for n, label in enumerate(PAPER)]
    corpora, notes = make_corpora(clips)
    assert list(corpora["train_corpus"]) == ["z9", "z8", "z7", "z6", "z5", "z4"]
    assert [values["emo"] for values in corpora["train_corpus"].values()] == list(WORDS)
    assert (corpora["test1_corpus"], notes) == ({}, [])


def test_who_is_trained_on():
    corpora, notes = make_corpora([
        Clip("people", label="sadness"),
        Clip("theirs", label="sad", split="labelled"),
        Clip("predicted", label="anger", confidence=0.9),
        Clip("test", label="anger", split="test"),
        Clip("held", split="test"),
        Clip("none", split="unlabelled"),
        Clip("odd", label="bored", split="labelled"),
        Clip("bare", split="labelled"),
    ])  # fmt: skip
    assert corpora["train_corpus"] == {"people": {"emo": "sad"}, "theirs": {"emo": "sad"}}
    assert {name: values["emo"] for name, values in corpora["test1_corpus"].items()} == {
        "predicted": "neutral", "test": "angry", "held": "neutral", "none": "neutral",
    }  # fmt: skip
    assert notes == ["2 labelled clips without one of the six words, left out, e.g. bare"]


def test_numpy_1_knows_every_name_in_the_pickle():
    data = corpora_bytes(make_corpora([Clip("a", label="anger"), Clip("b")])[0])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    assert list(members) == ["train_corpus.npy", "test1_corpus.npy"]
    for member in members.values():
        assert b"numpy.core.multiarray" in member
        assert b"numpy._core" not in member
        pickled = member[member.index(b"\n") + 1 :]
        assert pickled[:2] == b"\x80\x03"  # a protocol that Python 3.8 has


def test_numpy_2_reads_it_and_so_does_the_restricted_reader(tmp_path):
    clips = [Clip("b", label="anger", split="labelled"), Clip("a", split="unlabelled")]
    corpora, _ = make_corpora(clips)
    path = tmp_path / "label-6way.npz"
    path.write_bytes(corpora_bytes(corpora))
    assert read_corpora(path) == corpora
    with zipfile.ZipFile(path) as archive:
        member = io.BytesIO(archive.read("train_corpus.npy"))
    member.seek(member.getvalue().index(b"\n") + 1)
    assert _Renaming(member).load().item() == {"b": {"emo": "angry"}}
    (tmp_path / "video").mkdir()
    found = {clip.clip_id: (clip.label, clip.split) for clip in from_mertools(tmp_path).clips}
    assert found == {"b": ("anger", "labelled"), "a": (None, "unlabelled")}


class _Renaming(pickle.Unpickler):
    """NumPy 1's side: the old module is the only one there is."""

    def find_class(self, module, name):
        assert "_core" not in module
        place = np._core.multiarray if module == "numpy.core.multiarray" else np
        return getattr(place, name)


def test_equal_lists_give_equal_bytes():
    clips = [Clip("a", label="anger"), Clip("b")]
    assert corpora_bytes(make_corpora(clips)[0]) == corpora_bytes(make_corpora(clips)[0])
