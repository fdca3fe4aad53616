"""A submission is joined by name; pseudo-labels say that they are."""

import numpy as np
import pytest

from mer_store.clips.clip_list import Clip, ClipList
from mer_store.errors import UsageError
from pipelines.train.predictions import Predictions
from pipelines.train.submission import pseudo_labelled, read_candidates, write_submission

CLASSES = ("neutral", "anger", "happiness", "sadness", "worry", "surprise")


@pytest.fixture
def clip_list():
    return ClipList(
        (
            Clip("labelled", label="anger", split="labelled"),
            Clip("test1", split="test"),
            Clip("test2", split="test"),
            Clip("sure", split="unlabelled", text="嗯"),
            Clip("unsure", split="unlabelled"),
            Clip("faceless", split="unlabelled"),
        )
    )


@pytest.fixture
def predictions():
    best, confidence = [1, 4, 2, 3, 5], np.array([0.95, 0.95, 0.6, 0.95, 0.5])
    probability = np.repeat((1 - confidence)[:, None] / 5, 6, axis=1)
    probability[np.arange(5), best] = confidence
    return Predictions(("labelled", "test1", "test2", "sure", "unsure"), CLASSES, probability)


def test_the_test_split_is_submitted_in_the_organisers_words(clip_list, predictions, tmp_path):
    assert write_submission(predictions, clip_list, tmp_path / "out.csv") == (2, [])
    assert (tmp_path / "out.csv").read_text() == "name,discrete\ntest1,worried\ntest2,happy\n"


def test_without_candidates_clips_without_a_prediction_are_left_out_and_named(
    clip_list, predictions, tmp_path
):
    untested = ClipList(tuple(clip for clip in clip_list.clips if clip.split != "test"))
    assert write_submission(predictions, untested, tmp_path / "out.csv") == (2, ["faceless"])
    assert (tmp_path / "out.csv").read_text() == "name,discrete\nsure,sad\nunsure,surprise\n"


def test_candidates_decide_names_and_order(clip_list, predictions, tmp_path):
    (tmp_path / "list.csv").write_text("name,extra\nunsure,1\ntest2,2\nlabelled,3\n")
    write_submission(predictions, clip_list, tmp_path / "out.csv", tmp_path / "list.csv")
    rows = (tmp_path / "out.csv").read_text().splitlines()
    assert rows == ["name,discrete", "unsure,surprise", "test2,happy", "labelled,angry"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("test1 faceless", r"1 missing: no prediction.*faceless"),
        ("test1 nobody", r"1 extra: not in the clip list: nobody"),
        ("test1 test2 test1", r"1 named twice: test1"),
        ("nobody faceless", r"extra.*nobody; 1 missing.*faceless"),
    ],
)
def test_what_is_missing_or_extra_is_listed_and_nothing_is_written(
    clip_list, predictions, tmp_path, names, words
):
    (tmp_path / "list.csv").write_text("name\n" + "\n".join(names.split()) + "\n")
    with pytest.raises(UsageError, match=words):
        write_submission(predictions, clip_list, tmp_path / "out.csv", tmp_path / "list.csv")
    assert not (tmp_path / "out.csv").exists()


def test_a_candidates_file_of_one_column_needs_no_header(tmp_path):
    (tmp_path / "names.txt").write_text("a\nb\n")
    assert read_candidates(tmp_path / "names.txt") == ["a", "b"]
    (tmp_path / "wrong.csv").write_text("id,discrete\na,b\n")
    with pytest.raises(UsageError, match="expected the column name; got id, discrete"):
        read_candidates(tmp_path / "wrong.csv")


def test_only_sure_clips_without_a_label_become_pseudo_labels(clip_list, predictions, tmp_path):
    chosen = pseudo_labelled(predictions, clip_list, 0.9)
    assert [(c.clip_id, c.label, c.text) for c in chosen.clips] == [("sure", "sadness", "嗯")]
    assert chosen.clips[0].confidence == pytest.approx(0.95, abs=1e-4)
    chosen.write(tmp_path / "new.csv")
    assert ClipList.read(tmp_path / "new.csv").clips == chosen.clips
