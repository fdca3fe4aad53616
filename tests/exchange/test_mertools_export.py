"""MERTools' layout written from a store: names, shapes, types, sums, and clips without features."""

from dataclasses import replace

import numpy as np
import pytest
from mertools_factory import LAST_FOUR, empty, failed, filled, listed, new_store, tree
from part_factory import ok_clip, values_of

from mer_store.clips.clip_list import Clip, ClipList
from mer_store.errors import UsageError
from mer_store.store.writer import ClipRows
from pipelines.exchange.mertools_export import export_mertools
from pipelines.exchange.options import ExportOptions

ABC = listed("a", "b", "c")


@pytest.fixture
def store(tmp_path):
    return new_store(tmp_path)


@pytest.fixture
def to(tmp_path):
    return tmp_path / "out"


def export(store, clips, to, **options):
    return export_mertools(store, clips, to, ExportOptions(**options))


def load(to, folder, clip_id):
    return np.load(to / "features" / folder / f"{clip_id}.npy", allow_pickle=False)


def test_the_last_four_layers_are_summed_as_numpy_sums_them(store, to):
    filled(store, "abc", stored_dtype="float32")
    assert export(store, ABC, to) == 0
    for clip_id in "abc":
        array = load(to, "chinese-hubert-large-UTT", clip_id)
        expected = sum(values_of(clip_id, layer, 1)[0] for layer in LAST_FOUR)
        assert (array.dtype, array.shape) == (np.float32, (4,))
        np.testing.assert_array_equal(array, expected)


def test_a_sum_of_float16_layers_is_off_by_no_more_than_stated(store, to):
    rng = np.random.default_rng(0)
    layers = {layer: rng.normal(size=(1, 1024)).astype(np.float32) for layer in LAST_FOUR}
    filled(store, [ClipRows("a", "ok", digest="sha256:a", layers=layers)])
    export(store, listed("a"), to)
    exact = sum(values.astype(np.float64) for values in layers.values())[0]
    off = np.abs(load(to, "chinese-hubert-large-UTT", "a") - exact)
    assert (off <= 2**-11 * sum(np.abs(values[0]) for values in layers.values()) + 1e-6).all()
    assert off.max() > 1e-6  # float16 was stored


def test_each_modality_has_its_type_and_name(store, to):
    filled(store, "abc")
    filled(store, "abc", "visual", ("embed",), model="clip-vit-large-patch14")
    filled(store, "abc", "text", (37, 38, 39, 40), model="Baichuan2-13B-Base")
    assert export(store, ABC, to) == 0
    found = {
        path.name: {np.load(file).dtype.str for file in path.iterdir()}
        for path in (to / "features").iterdir()
    }
    assert found == {
        "chinese-hubert-large-UTT": {"<f4"},
        "clip-vit-large-patch14-UTT": {"<f4"},
        "Baichuan2-13B-Base-UTT": {"<f2"},
    }


def test_files_have_the_bytes_of_numpy_save(store, to, tmp_path):
    filled(store, "a", stored_dtype="float32")
    export(store, listed("a"), to)
    np.save(tmp_path / "same.npy", load(to, "chinese-hubert-large-UTT", "a"))
    written = (to / "features/chinese-hubert-large-UTT/a.npy").read_bytes()
    assert written == (tmp_path / "same.npy").read_bytes()


def test_frames(store, to):
    filled(store, "ab", level="frame")
    assert export(store, listed("a", "b"), to, level="frame", modality="audio") == 0
    array = load(to, "chinese-hubert-large-FRA", "b")
    assert array.shape == (3, 4)
    np.testing.assert_array_equal(array, sum(values_of("b", layer, 3) for layer in LAST_FOUR))


def test_a_summed_layer_is_written_as_it_is_and_goes_first(store, to, capsys):
    filled(store, "abc")
    filled(store, "abc", layers=("last4sum",), recipe="mertools2024", stored_dtype="float32")
    export(store, ABC, to)
    array = load(to, "chinese-hubert-large-UTT", "a")
    np.testing.assert_array_equal(array, values_of("a", "last4sum", 1)[0])
    assert "recipe default" not in capsys.readouterr().err
    export(store, ABC, to, modality="audio", recipe="default", name="ours")
    assert "close to MERTools' numbers, not the same" in capsys.readouterr().err
    assert load(to, "ours-UTT", "a")[0] != array[0]


def test_the_last_layer_alone_of_2023(store, to):
    filled(store, "a", layers=(24,), recipe="mertools2023")
    export(store, listed("a"), to)
    array = load(to, "chinese-hubert-large-UTT", "a")
    np.testing.assert_array_equal(array, values_of("a", 24, 1)[0])


def test_missing_layers_are_named_with_the_command_that_makes_them(store, to):
    filled(store, "abc", layers=(16, 21, 22))
    with pytest.raises(UsageError, match=r"the store lacks 23-24 .*--layers 23-24"):
        export(store, ABC, to)
    assert not to.exists()


def test_the_last_four_of_an_unknown_model_are_asked_for(store, to):
    filled(store, "abc", model="tiny")
    with pytest.raises(UsageError, match="last four is not known"):
        export(store, ABC, to)
    assert export(store, ABC, to, modality="audio", layers="21-24") == 0
    assert load(to, "tiny-UTT", "a").shape == (4,)


@pytest.mark.parametrize(("name", "folder"), [
    ("mine", "mine-UTT"), ("mine-UTT", "mine-UTT"), ("mine-FRA", None), ("../mine", None), (".x", None),
])  # fmt: skip
def test_names(store, to, name, folder):
    filled(store, "abc")
    if folder is None:
        with pytest.raises(UsageError, match="--name"):
            export(store, ABC, to, modality="audio", name=name)
        assert not to.exists()
    else:
        export(store, ABC, to, modality="audio", name=name)
        assert [path.name for path in (to / "features").iterdir()] == [folder]


def test_holes_are_refused_before_anything_is_written(store, to):
    clips = [*map(str, range(9)), "gone"]
    filled(store, ["0", "1", *(empty(str(n)) for n in range(2, 8)), failed("8")])
    with pytest.raises(UsageError) as refused:
        export(store, listed(*clips), to)
    assert "8 of 10 clips" in str(refused.value)
    assert "6 empty, 1 failed, 1 not extracted" in str(refused.value)
    assert "2, 3, 4, 5, 6 and 3 more" in str(refused.value)
    with pytest.raises(UsageError, match=r"2 of 10 clips .*: 8, gone\."):
        export(store, listed(*clips), to, policy="zeros")
    assert not to.exists()


def test_zeros_are_what_mertools_writes(store, to):
    filled(store, ["a", empty("e")])
    filled(store, ["a", empty("e")], "text", (37, 38, 39, 40), model="Baichuan2-13B-Base")
    assert export(store, listed("a", "e"), to, policy="zeros") == 0
    audio = load(to, "chinese-hubert-large-UTT", "e")
    text = load(to, "Baichuan2-13B-Base-UTT", "e")
    assert (audio.dtype.str, audio.tolist()) == ("<f4", [0, 0, 0, 0])
    assert (text.dtype.str, text.tolist()) == ("<f8", [0, 0, 0, 0])


def test_zeros_at_frame_level_are_one_row(store, to):
    filled(store, ["a", empty("e")], level="frame")
    export(store, listed("a", "e"), to, level="frame", policy="zeros")
    assert load(to, "chinese-hubert-large-FRA", "e").shape == (1, 4)


def test_zeros_of_unknown_width_are_refused(store, to):
    filled(store, [empty("e")])
    with pytest.raises(UsageError, match="how wide"):
        export(store, listed("e"), to, policy="zeros")
    assert not to.exists()


def test_clips_that_are_left_out_are_listed_and_have_no_label(store, to, capsys):
    filled(store, ["a", "b", empty("e")])
    clips = listed("a", "b", "e", label="anger", split="labelled")
    assert export(store, clips, to, policy="skip") == 0
    assert capsys.readouterr().out == "audio\te\tempty\tno speech\n"
    assert sorted(tree(to / "features")) == [f"chinese-hubert-large-UTT/{c}.npy" for c in "ab"]
    with np.load(to / "label-6way.npz", allow_pickle=True) as labels:
        assert list(labels["train_corpus"].item()) == ["a", "b"]


def test_leaving_out_what_failed_is_told_by_the_exit_code(store, to, capsys):
    filled(store, ["a", failed("f")])
    assert export(store, listed("a", "f", "gone"), to, policy="skip") == 1
    out = capsys.readouterr().out.splitlines()
    assert out == ["audio\tf\tfailed\ttruncated", "audio\tgone\tnot extracted\t"]


def test_a_value_that_float16_does_not_hold_keeps_float32(store, to, capsys):
    big = replace(ok_clip("big", (40,), 1), layers={40: np.full((1, 4), 70_000, np.float32)})
    filled(store, ["a", big], "text", (40,), model="Baichuan2-13B-Base")
    export(store, listed("a", "big"), to, modality="text", layers="40")
    assert load(to, "Baichuan2-13B-Base-UTT", "a").dtype == np.float16
    array = load(to, "Baichuan2-13B-Base-UTT", "big")
    assert (array.dtype, array[0]) == (np.float32, 70_000)
    assert "float32 for big" in capsys.readouterr().err


def test_it_goes_on_where_it_stopped_and_changes_nothing(store, to, capsys):
    filled(store, "abc")
    export(store, ABC, to)
    whole = tree(to)
    folder = to / "features/chinese-hubert-large-UTT"
    (folder / "b.npy").unlink()
    assert export(store, ABC, to) == 0
    assert tree(to) == whole
    assert "1 files written, 2 files there already" in capsys.readouterr().err
    (folder / "c.npy").write_bytes(b"mine")
    assert export(store, ABC, to) == 1
    assert (folder / "c.npy").read_bytes() == b"mine"
    assert "left as they are: c" in capsys.readouterr().err


def test_an_interrupted_export_leaves_whole_files_only(store, to, monkeypatch):
    filled(store, "abc")
    from pipelines.exchange import new_file

    def stop(temporary, path):
        raise KeyboardInterrupt

    monkeypatch.setattr(new_file.os, "link", stop)
    with pytest.raises(KeyboardInterrupt):
        export(store, ABC, to)
    assert tree(to) == {}


def test_without_a_clip_list_every_clip_is_written(store, to):
    filled(store, "abc")
    assert export(store, None, to) == 0
    assert sorted(tree(to)) == [f"features/chinese-hubert-large-UTT/{c}.npy" for c in "abc"]


@pytest.mark.parametrize("clip_id", ["../../evil", "a/b", ".hidden"])
def test_ids_of_a_store_from_elsewhere_lead_nowhere(store, to, clip_id):
    filled(store, ["a", clip_id])
    with pytest.raises(UsageError, match="unsafe in a file name"):
        export(store, None, to)
    assert not to.exists()


def test_transcripts(store, to):
    filled(store, "abc")
    clips = [Clip("a", text="你好,吗"), Clip("b", text=""), Clip("c")]
    export(store, ClipList(tuple(clips)), to)
    assert (to / "transcription-merge.csv").read_text("utf-8") == 'name,chinese\na,"你好,吗"\nb,\n'
    assert not (to / "label-6way.npz").exists()


def test_other_labels_are_not_overwritten(store, to, capsys):
    filled(store, "abc")
    export(store, listed("a", "b", label="anger", split="labelled"), to)
    before = (to / "label-6way.npz").read_bytes()
    assert export(store, listed("a", "b", label="worry", split="labelled"), to) == 1
    assert (to / "label-6way.npz").read_bytes() == before
    assert "it says other things" in capsys.readouterr().err


def test_lists_that_mertools_made_are_kept_where_they_say_the_same(store, to):
    filled(store, "abc")
    to.mkdir()
    texts = "name,chinese,english\na,你好,hello\nb,,\n"
    (to / "transcription-merge.csv").write_text(texts, "utf-8")
    train = {"b": {"emo": "angry", "val": -1.0}, "a": {"emo": "happy", "val": 2.0}}
    np.savez(to / "label-6way.npz", train_corpus=train, test1_corpus={"c": {"emo": "neutral"}})
    before = tree(to)
    b, a = (
        Clip("b", None, "", "anger", "labelled"),
        Clip("a", None, "你好", "happiness", "labelled"),
    )
    c = Clip("c", split="unlabelled")
    assert export(store, ClipList((b, a, c)), to) == 0
    assert before.items() <= tree(to).items()
    assert (
        export(store, ClipList((a, b, c)), to) == 1
    )  # the order is what predictions are joined by
    assert before.items() <= tree(to).items()


def test_an_empty_store(store, to):
    with pytest.raises(UsageError, match="no features to export"):
        export(store, ABC, to)
