"""Who is trained on, who is scored, and in which fold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer_store.clips.clip_list import Clip, ClipList
from mer_store.errors import UsageError
from pipelines.train.choices import ProtocolSettings
from pipelines.train.folds import assign_folds, read_folds, write_folds
from pipelines.train.lanes import count_batches, epoch_batches, make_lanes, settle
from pipelines.train.roster import make_roster, read_roster

CLASSES = ("neutral", "anger", "happiness", "sadness", "worry", "surprise")


def clip(number, label=None, split=None, **more):
    return Clip(f"clip{number:03d}", None, None, label, split, **more)


def roster_of(n=60, **more):
    clips = [clip(n, CLASSES[n * n % 6], "labelled") for n in range(n)]
    return make_roster([*clips, clip(900, None, "unlabelled"), *more.get("others", [])], CLASSES)


def test_columns_follow_the_list():
    roster = make_roster(
        [
            clip(0, "angry", "labelled"),
            clip(1, "anger", "test"),
            clip(2, "worry", "unlabelled", confidence=0.7),
            clip(3),
            clip(4, "happiness"),
        ],
        CLASSES,
    )
    assert roster.label.tolist() == [1, 1, 4, -1, 2]
    assert roster.scored.tolist() == [True, False, False, False, True]
    assert roster.unlabelled.tolist() == [False, True, True, True, False]
    assert roster.confidence == pytest.approx([1, 1, 0.7, 0, 1])


def test_a_label_that_is_no_class_is_named_with_its_number():
    with pytest.raises(UsageError, match=r"label 'joy' \(2 clips\).*--set classes"):
        make_roster([clip(0, "joy"), clip(1, "joy"), clip(2, "anger")], CLASSES)


def test_pseudo_labels_never_replace_real_ones(tmp_path):
    real = ClipList(
        (clip(0, "anger", "labelled"), clip(1, "sadness", "labelled"), clip(2), clip(3))
    )
    pseudo = (
        clip(0, "neutral", confidence=0.99),
        clip(2, "worry", "unlabelled", confidence=0.9),
        clip(7, "surprise", "unlabelled", confidence=0.95),
    )
    ClipList(pseudo).write(tmp_path / "pseudo.csv")
    roster = read_roster(real, ProtocolSettings(pseudo=str(tmp_path / "pseudo.csv")))
    assert roster.clip_ids == ("clip000", "clip001", "clip002", "clip003", "clip007")
    assert roster.label.tolist() == [1, 3, 4, -1, 5]
    assert roster.is_pseudo.tolist() == [False, False, True, False, True]


def test_a_list_without_labels_is_refused():
    with pytest.raises(UsageError, match="no clip with a label"):
        read_roster(ClipList((clip(0), clip(1, "anger", "test"))), ProtocolSettings())


@given(st.integers(2, 7), st.integers(0, 1000))
def test_drawn_folds_spread_every_class(n_folds, seed):
    roster = roster_of()
    settings = ProtocolSettings(n_folds=n_folds, fold_seed=seed)
    folds = assign_folds(roster, settings)
    assert (folds[~roster.scored] == -1).all()
    for label in np.unique(roster.label[roster.scored]):
        counts = np.bincount(folds[roster.label == label], minlength=n_folds)
        assert counts.max() - counts.min() <= 1
    sizes = np.bincount(folds[roster.scored], minlength=n_folds)
    assert sizes.max() - sizes.min() <= 1


def test_drawn_folds_depend_on_ids_and_seed_alone():
    clips = [clip(n, CLASSES[n % 6], "labelled") for n in range(40)]
    forward, backward = make_roster(clips, CLASSES), make_roster(clips[::-1], CLASSES)
    settings = ProtocolSettings(fold_seed=3)
    assert (
        assign_folds(forward, settings).tolist() == assign_folds(backward, settings)[::-1].tolist()
    )
    other = assign_folds(forward, ProtocolSettings(fold_seed=4))
    assert other.tolist() != assign_folds(forward, settings).tolist()


def test_folds_are_written_and_used_again(tmp_path):
    roster = roster_of()
    folds = assign_folds(roster, ProtocolSettings(fold_seed=5))
    write_folds(roster, folds, tmp_path / "folds.csv")
    assert len(read_folds(tmp_path / "folds.csv")) == 60
    again = assign_folds(roster, ProtocolSettings(folds=str(tmp_path / "folds.csv"), n_folds=3))
    assert again.tolist() == folds.tolist()


def test_folds_of_the_clip_list_come_first_and_must_be_whole():
    clips = [clip(n, "anger", "labelled", fold=[4, 9][n % 2]) for n in range(6)]
    roster = make_roster(clips, CLASSES)
    assert assign_folds(roster, ProtocolSettings()).tolist() == [0, 1, 0, 1, 0, 1]
    with pytest.raises(UsageError, match=r"1 labelled clips have no fold, e\.g\. clip077"):
        assign_folds(make_roster([*clips, clip(77, "anger")], CLASSES), ProtocolSettings())


def test_lanes_train_on_the_other_folds_and_on_pseudo_labels():
    others = [clip(901, "anger", "unlabelled", confidence=0.9), clip(902, "worry", "test")]
    roster = roster_of(others=others)
    settings = ProtocolSettings(repeats=2, n_folds=3)
    folds = assign_folds(roster, settings)
    usable = np.ones(len(folds), bool)
    usable[5] = False
    lanes = make_lanes(roster, folds, settings, usable)
    assert [(lane.repeat, lane.fold) for lane in lanes] == [
        (r, f) for r in (0, 1) for f in (0, 1, 2)
    ]
    for lane in lanes:
        assert not set(lane.train) & set(lane.validate)
        assert 61 in lane.train  # pseudo-labelled
        assert not {5, 60, 62} & {*lane.train.tolist(), *lane.validate.tolist()}
        assert len(lane.train) + len(lane.validate) == 60
        assert len(lane.choose) == 0


def test_the_inner_part_is_held_out_of_training():
    roster = roster_of()
    settings = ProtocolSettings(selection="inner", inner_share=0.2)
    folds = assign_folds(roster, settings)
    for lane in make_lanes(roster, folds, settings, np.ones(len(folds), bool)):
        parts = [set(lane.train.tolist()), set(lane.choose.tolist()), set(lane.validate.tolist())]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 60
        assert 0.1 < len(lane.choose) / (len(lane.train) + len(lane.choose)) < 0.3


def test_a_fold_without_features_is_said():
    roster = roster_of()
    folds = assign_folds(roster, ProtocolSettings())
    with pytest.raises(UsageError, match="fold 2: 0 clips with features"):
        make_lanes(roster, folds, ProtocolSettings(), folds != 2)


@given(st.integers(1, 40), st.integers(0, 5))
def test_batches_hold_every_clip_once_and_a_lane_alone_takes_the_same_steps(batch, epoch):
    roster = roster_of(n=47)
    settings = ProtocolSettings(n_folds=4)
    folds = assign_folds(roster, settings)
    lanes = make_lanes(roster, folds, settings, np.ones(len(folds), bool))
    n_batches = count_batches(lanes, batch)
    together = list(epoch_batches(lanes, n_batches, epoch))
    assert len(together) == n_batches
    for number, lane in enumerate(lanes):
        taken = [rows[number][real[number]] for rows, real in together]
        assert sorted(np.concatenate(taken).tolist()) == sorted(lane.train.tolist())
        assert max(map(len, taken)) <= batch
        alone = [rows[0][real[0]] for rows, real in epoch_batches([lane], n_batches, epoch)]
        assert [t.tolist() for t in taken] == [a.tolist() for a in alone]
    if n_batches > 1:
        later = list(epoch_batches(lanes, n_batches, epoch + 1))
        assert any(
            (a[0] != b[0]).any()
            for a, b in zip(together, later, strict=True)
            if a[0].shape == b[0].shape
        )


def test_scored_clips_are_settled_by_models_that_did_not_see_them():
    roster = roster_of(n=12)
    settings = ProtocolSettings(n_folds=3, repeats=2)
    folds = assign_folds(roster, settings)
    lanes = make_lanes(roster, folds, settings, np.ones(len(folds), bool))
    logits = np.stack([np.full((len(folds), 6), 10.0 * lane.repeat + lane.fold) for lane in lanes])
    settled = settle(lanes, logits)
    assert settled[:12, 0].tolist() == (5.0 + folds[:12]).tolist()
    assert settled[12, 0] == pytest.approx(6.0)  # unlabelled: all lanes
