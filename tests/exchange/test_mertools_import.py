"""MERTools folders read into a store: types, shapes, what is missing, extra and stale; the way back."""

import os
from hashlib import sha256

import numpy as np
import pytest
from mertools_factory import empty, filled, listed, new_store, save, tree

from mer_store.errors import UsageError
from mer_store.store.ledger import Status
from mer_store.store.verify import verify
from pipelines.exchange import mertools_import
from pipelines.exchange.mertools_export import export_mertools
from pipelines.exchange.mertools_import import import_mertools
from pipelines.exchange.options import ExportOptions, ImportOptions

NAME = "chinese-hubert-large-UTT"
AB = listed("a", "b")


@pytest.fixture
def store(tmp_path):
    return new_store(tmp_path)


@pytest.fixture
def source(tmp_path):
    return tmp_path / "in"


def bring(source, store, clips, name=NAME, modality="audio", **options):
    options = ImportOptions(name=name, modality=modality, **options)
    return import_mertools(source, store, clips, options)


def row(n=0, dtype=np.float32):
    return np.arange(n + 1, n + 5, dtype=dtype)


def fill(source, arrays, name=NAME):
    for clip_id, array in arrays.items():
        save(source / "features" / name, clip_id, array)
    return source / "features" / name


def n_parts(store):
    return sum(len(feature_set.part_ids()) for feature_set in store.feature_sets())


def test_what_the_feature_set_says(source, store):
    folder = fill(source, {"a": row(), "b": row(1)})
    assert bring(source, store, AB) == 0
    [audio] = store.feature_sets()
    spec = audio.spec
    assert (spec.model, spec.level, spec.recipe) == (
        "chinese-hubert-large", "utterance", "mertools2024",
    )  # fmt: skip
    assert (spec.weights, spec.preprocessing["imported"]) == ("imported", "mertools")
    assert (spec.stored_dtype, audio.layers) == ("float32", ("last4sum",))
    digest = sha256((folder / "a.npy").read_bytes()).hexdigest()
    assert audio.ledger(["a"]).digest[0] == f"sha256:{digest}"
    np.testing.assert_array_equal(audio.read(["last4sum"], ["b", "a"])[:, 0], [row(1), row()])
    assert verify(store, deep=True) == []


@pytest.mark.parametrize(("dtype", "stored"), [
    ("<f2", "float16"), ("<f4", "float32"), ("<f8", "float32"), (">f4", "float32"),
])  # fmt: skip
@pytest.mark.parametrize("shape", [(4,), (1, 4)])
def test_types_and_shapes(source, store, dtype, stored, shape):
    fill(source, {"a": row().astype(dtype).reshape(shape)})
    assert bring(source, store, listed("a")) == 0
    [audio] = store.feature_sets()
    values = audio.read(["last4sum"], ["a"])
    assert (values.dtype, audio.spec.stored_dtype) == (np.dtype(stored), stored)
    np.testing.assert_array_equal(values[0, 0], row())


def test_fortran_order(source, store):
    frames = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4))
    fill(source, {"a": frames}, "x-FRA")
    bring(source, store, listed("a"), "x-FRA")
    [features] = store.feature_sets()
    np.testing.assert_array_equal(features.ragged(["last4sum"], ["a"])[0][:, 0], frames)


def test_several_rows_of_an_utterance_become_their_mean_and_that_is_said(source, store, capsys):
    frames = np.array([[1, 2], [2, 4], [6, 6]], np.float32)
    fill(source, {"a": frames})
    bring(source, store, listed("a"))
    [audio] = store.feature_sets()
    np.testing.assert_array_equal(audio.read(["last4sum"], ["a"])[0, 0], [3, 4])
    assert "pooled: 1 clips" in capsys.readouterr().err


def test_a_folder_of_files_for_a_clip(source, store):
    folder = fill(source, {"b": row()}, "x-FRA")
    for number in (2, 10, 1):
        save(folder / "a", f"{number:03}", row(number))
    save(folder / "b", "000", row(9))  # b.npy goes before it
    (folder / "none").mkdir()
    bring(source, store, None, "x-FRA")
    [features] = store.feature_sets()
    a, b = features.ragged(["last4sum"], ["a", "b"])
    np.testing.assert_array_equal(a[:, 0], [row(1), row(2), row(10)])
    np.testing.assert_array_equal(b[:, 0], [row()])
    assert features.ledger(["none"]).status[0] == Status.EMPTY
    save(folder / "a", "011", row(11))
    bring(source, store, None, "x-FRA")
    assert len(features_again(store).ragged(["last4sum"], ["a"])[0]) == 4


def features_again(store):
    [features] = store.feature_sets()
    return features


@pytest.mark.parametrize("array", [np.zeros(0), np.zeros((0, 4), np.float32), np.zeros(4)])
def test_arrays_that_stand_for_nothing_are_empty_clips(source, store, array):
    fill(source, {"a": row(), "e": array})
    assert bring(source, store, listed("a", "e")) == 0
    ledger = features_again(store).ledger(["a", "e"])
    assert ledger.status.tolist() == [Status.OK, Status.EMPTY]
    assert "no face or no speech" in ledger.reasons[1]


def test_values_that_float32_rounds_are_reported(source, store, capsys):
    fill(source, {"a": np.array([0.1, 1.0]), "b": np.array([0.5, 1.0])})
    assert bring(source, store, AB) == 0
    assert "rounded: 1 clips hold values that float32 does not hold exactly: a\n" in (
        capsys.readouterr().err
    )


def test_values_beyond_float32_fail(source, store):
    fill(source, {"a": np.array([1e300, 1.0]), "b": np.array([1.0, 2.0])})
    assert bring(source, store, AB) == 1
    assert features_again(store).ledger(["a"]).status[0] == Status.FAILED


def test_missing_and_extra_clips_are_told(source, store, capsys):
    fill(source, {"a": row(), "more": row()})
    assert bring(source, store, listed("a", "gone")) == 1
    told = capsys.readouterr().err
    assert "missing: 1 listed clips: gone\n" in told
    assert "extra: 1 files of clips that are not listed: more\n" in told
    assert features_again(store).clip_ids == ("a",)
    fill(source, {"gone": row()})
    assert bring(source, store, listed("a", "gone")) == 0


def test_a_second_import_does_nothing(source, store, monkeypatch):
    fill(source, {"a": row(), "b": np.zeros(0), "c": np.array(["x"])})
    clips = listed("a", "b", "c")
    assert bring(source, store, clips) == 1
    before = tree(store.path / "features")
    monkeypatch.setattr(mertools_import, "values_of", lambda *args: pytest.fail("read again"))
    assert bring(source, store, clips) == 1  # c is still no features
    assert tree(store.path / "features") == before


def test_a_touched_file_is_no_other_file(source, store):
    folder = fill(source, {"a": row()})
    bring(source, store, listed("a"))
    os.utime(folder / "a.npy", ns=(1, 1))
    bring(source, store, listed("a"))
    assert n_parts(store) == 1


def test_a_changed_file_is_stale_and_imported_again(source, store, capsys):
    folder = fill(source, {"a": row(), "b": row()})
    bring(source, store, AB)
    fill(source, {"a": row(7)})
    os.utime(folder / "a.npy", ns=(1, 1))
    assert bring(source, store, AB) == 0
    assert "stale: 1 clips changed since, imported again: a\n" in capsys.readouterr().err
    audio = features_again(store)
    assert audio.ledger(["a", "b"]).attempt.tolist() == [1, 0]
    np.testing.assert_array_equal(audio.read(["last4sum"], ["a", "b"])[:, 0], [row(7), row()])


def test_a_file_that_became_bad_is_not_served_as_it_was(source, store):
    folder = fill(source, {"a": row(), "b": row()})
    bring(source, store, AB)
    (folder / "a.npy").write_bytes(b"no")
    assert bring(source, store, AB) == 1
    assert features_again(store).clip_ids == ("b",)


def test_parts_are_of_bounded_size(source, store):
    fill(source, {f"c{n}": row(n) for n in range(5)})
    bring(source, store, None, part_clips=2)
    assert sorted(len(record.ledger) for record in features_again(store).records()) == [1, 2, 2]


def test_an_interrupted_import_keeps_what_it_read_and_goes_on(source, store, monkeypatch, capsys):
    import signal

    fill(source, {f"c{n}": row(n) for n in range(5)})
    n_read = []

    def values_of(*args):
        n_read.append(args)
        if len(n_read) == 3:
            signal.raise_signal(signal.SIGINT)
        return real(*args)

    real = mertools_import.values_of
    monkeypatch.setattr(mertools_import, "values_of", values_of)
    assert bring(source, store, None, part_clips=2) == 130
    assert len(features_again(store).clip_ids) == 3
    assert bring(source, store, None, part_clips=2) == 0
    assert (len(n_read), len(features_again(store).clip_ids)) == (5, 5)


@pytest.mark.parametrize(("modality", "name", "array"), [
    ("audio", NAME, row() / 3),
    ("visual", "clip-vit-large-patch14-UTT", row() / 7),
    ("text", "Baichuan2-13B-Base-UTT", (row() / 3).astype(np.float16)),
    ("audio", "chinese-hubert-large-FRA", np.arange(12, dtype=np.float32).reshape(3, 4) / 3),
    ("text", "Baichuan-13B-Base-FRA", np.ones((2, 4), np.float16)),
    ("text", "mine-UTT", row() / 3),
])  # fmt: skip
def test_the_way_back_gives_the_same_bytes(source, store, tmp_path, modality, name, array):
    zeros = np.zeros(4, np.float64 if modality == "text" else np.float32)
    if name.endswith("-FRA"):
        zeros = zeros[None]
    folder = fill(source, {"a": array, "b": array * 2, "e": zeros}, name)
    assert bring(source, store, listed("a", "b", "e"), name, modality) == 0
    options = ExportOptions(
        modality=modality, policy="zeros", level="frame" if name.endswith("-FRA") else None
    )
    assert export_mertools(store, listed("a", "b", "e"), tmp_path / "out", options) == 0
    assert tree(tmp_path / "out/features" / name) == tree(folder)


def test_export_import_export(store, tmp_path):
    filled(store, ["a", "b", empty("e")], stored_dtype="float32")
    filled(store, ["a", "b", empty("e")], "text", (37, 38, 39, 40), model="Baichuan2-13B-Base")
    clips = listed("a", "b", "e")
    first, second, other = tmp_path / "first", tmp_path / "second", new_store(tmp_path / "other")
    assert export_mertools(store, clips, first, ExportOptions(policy="zeros")) == 0
    assert bring(first, other, clips) == 0
    assert bring(first, other, clips, "Baichuan2-13B-Base-UTT", "text") == 0
    assert export_mertools(other, clips, second, ExportOptions(policy="zeros")) == 0
    assert tree(first) == tree(second)


def test_a_second_folder_is_a_feature_set_of_its_own(source, store):
    fill(source, {"a": row()})
    fill(source, {"a": row(1)}, "chinese-hubert-large-ft-UTT")
    bring(source, store, listed("a"))
    bring(source, store, listed("a"), "chinese-hubert-large-ft-UTT", layers="24", recipe="mine")
    layers = {features.spec.recipe: features.layers for features in store.feature_sets()}
    assert layers == {"mertools2024": ("last4sum",), "mine": (24,)}


@pytest.mark.parametrize(("options", "message"), [
    ({"name": "other-UTT"}, "no folder 'other-UTT'; there is chinese-hubert-large-UTT"),
    ({"name": "../features"}, "no folder"),
    ({"name": None}, "Give --name"),
    ({"modality": None}, "give --modality"),
    ({"level": "frame"}, "leave out --level frame"),
    ({"layers": "16-21, 22"}, "expected one layer"),
])  # fmt: skip
def test_what_cannot_be_told(source, store, options, message):
    fill(source, {"a": row()})
    with pytest.raises(UsageError, match=message):
        bring(source, store, listed("a"), **options)
    assert store.feature_sets() == []


def test_a_folder_of_other_clips(source, store):
    fill(source, {"a": row()})
    with pytest.raises(UsageError, match="none of them listed: a"):
        bring(source, store, listed("b"))
    assert store.feature_sets() == []
