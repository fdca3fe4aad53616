"""The organisers' layout, MERTools' layout, and any folder."""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest

from mer_store.clips.clip_list import Clip, ClipList
from mer_store.clips.folder import from_folder
from mer_store.clips.mer2024 import from_mer2024
from mer_store.clips.mertools import from_mertools
from mer_store.errors import UsageError

WORDS = ("neutral", "angry", "happy", "sad", "worried", "surprise")
CLASSES = ("neutral", "anger", "happiness", "sadness", "worry", "surprise")


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture
def organisers(tmp_path):
    """A small mer2024-dataset/: six labelled clips, four others."""
    folder = tmp_path / "mer2024-dataset"
    labelled = [f"samplenew_{k:08d}" for k in range(6)]
    others = [f"sample_{k:08d}" for k in range(4)]
    touch(*(folder / "video-labeled" / f"{name}.mp4" for name in labelled))
    touch(*(folder / "video-unlabeled-with-test2noise" / f"{name}.avi" for name in others))
    rows = [f"{n},{w},0.5" for n, w in zip(labelled, WORDS, strict=True)]
    write(folder / "label-disdim.csv", "name,discrete,valence", rows)
    write(
        folder / "label-transcription.csv",
        "name,chinese",
        [f"{n},你好" for n in labelled + others[:3]],
    )
    return folder


def write(path, header, rows):
    path.write_text("\n".join([header, *rows, ""]), encoding="utf-8")


def test_mer2024(organisers):
    clip_list = from_mer2024(organisers)
    assert [clip.label for clip in clip_list.clips[:6]] == list(CLASSES)
    assert {clip.split for clip in clip_list.clips[:6]} == {"labelled"}
    assert clip_list.clips[6] == Clip(
        "sample_00000000",
        organisers / "video-unlabeled-with-test2noise" / "sample_00000000.avi",
        "你好", None, "unlabelled",
    )  # fmt: skip
    assert clip_list.clips[9].text == ""
    assert clip_list.problems == ()
    (note,) = clip_list.notes
    assert "1 videos without a row in label-transcription.csv" in note
    assert clip_list.missing_files() == ()


def test_mer2024_round_trip(organisers, tmp_path):
    clip_list = from_mer2024(organisers)
    clip_list.write(tmp_path / "clips.csv")
    assert ClipList.read(tmp_path / "clips.csv").clips == clip_list.clips


def test_mer2024_says_what_does_not_fit(organisers):
    with (organisers / "label-disdim.csv").open("a", encoding="utf-8") as file:
        file.write("gone_1,happy,0\ngone_2,sad,0\n")
    (organisers / "video-labeled" / "extra.mp4").touch()
    touch(organisers / "video-labeled" / "sample_00000000.mp4")
    clip_list = from_mer2024(organisers)
    notes = "\n".join(clip_list.notes)
    assert "2 names in label-disdim.csv without a video, e.g. gone_1" in notes
    assert "2 videos in video-labeled without a label, e.g. extra" in notes
    (problem,) = clip_list.problems
    assert problem.clip_id == "sample_00000000"
    assert "duplicate id" in problem.reason
    assert "sample_00000000: left out" in notes


def test_mer2024_test_list(organisers):
    write(organisers / "test-candidates.csv", "name", ["sample_00000001", "sample_00000002"])
    splits = {clip.clip_id: clip.split for clip in from_mer2024(organisers).clips}
    assert splits["sample_00000001"] == splits["sample_00000002"] == "test"
    assert splits["sample_00000000"] == "unlabelled"


def test_mer2024_without_transcripts(organisers):
    (organisers / "label-transcription.csv").unlink()
    clip_list = from_mer2024(organisers)
    assert {clip.text for clip in clip_list.clips} == {None}
    assert any("label-transcription.csv: not there" in note for note in clip_list.notes)


def test_mer2024_elsewhere(tmp_path):
    with pytest.raises(UsageError, match="expected videos in video-labeled"):
        from_mer2024(tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        from_mer2024(tmp_path / "none")


def test_mer2024_wrong_table(organisers):
    write(organisers / "label-disdim.csv", "name,emotion", ["a,happy"])
    with pytest.raises(UsageError, match=r"label-disdim\.csv:1: expected the column discrete"):
        from_mer2024(organisers)


@pytest.fixture
def processed(tmp_path):
    """A small mer2024-dataset-process/."""
    folder = tmp_path / "process"
    touch(*(folder / "video" / f"{name}.mp4" for name in ("a", "b", "u1")))
    touch(*(folder / "audio" / f"{name}.wav" for name in ("a", "u2")))
    write(folder / "transcription-merge.csv", "name,chinese", ["a,你好", "b,", "u1,再见"])
    train = {"b": {"emo": "angry", "val": -1.5}, "a": {"emo": "worried", "val": 0.5}}
    test = {"u1": {"emo": "neutral"}, "u2": {"emo": "neutral"}}
    save_corpora(folder / "label-6way.npz", train_corpus=train, test1_corpus=test)
    return folder


def save_corpora(path, **corpora):
    np.savez_compressed(
        path, **{name: np.array(value, dtype=object) for name, value in corpora.items()}
    )


def test_mertools(processed):
    clip_list = from_mertools(processed)
    assert clip_list.clips == (
        Clip("b", processed / "video" / "b.mp4", "", "anger", "labelled"),
        Clip("a", processed / "video" / "a.mp4", "你好", "worry", "labelled"),
        Clip("u1", processed / "video" / "u1.mp4", "再见", None, "unlabelled"),
        Clip("u2", processed / "audio" / "u2.wav", "", None, "unlabelled"),
    )
    assert any(
        "1 clips without a row in transcription-merge.csv" in note for note in clip_list.notes
    )


def test_mertools_real_test_labels_are_kept(processed):
    train = {"a": {"emo": "angry"}}
    save_corpora(
        processed / "label-6way.npz", train_corpus=train, test1_corpus={"u1": {"emo": "sad"}}
    )
    clips = {clip.clip_id: clip for clip in from_mertools(processed).clips}
    assert (clips["u1"].label, clips["u1"].split) == ("sadness", "test")
    assert (clips["b"].label, clips["b"].split) == (None, None)


def renamed(path, old, new):
    """Rewrite a module's name in an npz file's pickles."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            file = io.BytesIO(data)
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            head, body = data[: file.tell()], data[file.tell() :]
            words = [(f"\x8c{chr(len(w))}{w}").encode("latin-1") for w in (old, new)]
            assert words[0] in body
            # Frames of protocol 4 state their length: write the pickle without them.
            archive.writestr(name, head + unframed(body).replace(*words))


def unframed(body):
    start = body.index(b"\x95")
    return body[:start] + body[start + 9 :] if start < 4 else body


@pytest.mark.parametrize("name", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_pickles_of_both_numpys_are_read(processed, name):
    if name != "numpy._core.multiarray":
        renamed(processed / "label-6way.npz", "numpy._core.multiarray", name)
    assert [clip.label for clip in from_mertools(processed).clips][:2] == ["anger", "worry"]


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/pwned-by-a-label-file",)


def test_pickle_that_calls_something_is_refused(processed):
    save_corpora(processed / "label-6way.npz", train_corpus={"a": {"emo": Evil()}})
    with pytest.raises(UsageError, match=r"train_corpus.npy: not read: asks for \w+\.system"):
        from_mertools(processed)
    assert not os.path.exists("/tmp/pwned-by-a-label-file")  # noqa: PTH110


def test_what_is_no_label_file(processed):
    (processed / "label-6way.npz").write_bytes(b"no zip")
    with pytest.raises(UsageError, match=r"cannot be read as \.npz"):
        from_mertools(processed)
    np.savez(processed / "label-6way.npz", train_corpus=np.arange(3))
    with pytest.raises(UsageError, match="expected one object"):
        from_mertools(processed)
    save_corpora(processed / "label-6way.npz", train_corpus={"a": "angry"})
    with pytest.raises(UsageError, match="expected a dictionary of clips"):
        from_mertools(processed)
    with zipfile.ZipFile(processed / "label-6way.npz", "w") as archive:
        archive.writestr("train_corpus.npy", pickle.dumps({}))
    with pytest.raises(UsageError, match="not read"):
        from_mertools(processed)


def test_folder(tmp_path):
    touch(
        tmp_path / "b.mp4",
        tmp_path / "sub" / "a.WAV",
        tmp_path / ".hidden.mp4",
        tmp_path / "notes.md",
    )
    (tmp_path / "b.txt").write_text("\ufeff你好\n 世界\n", encoding="utf-8")
    clip_list = from_folder(tmp_path)
    assert clip_list.clips == (
        Clip("b", tmp_path / "b.mp4", "你好 世界"),
        Clip("a", tmp_path / "sub" / "a.WAV", ""),
    )
    assert clip_list.notes == ()


def test_folder_without_transcripts_has_no_texts(tmp_path):
    touch(tmp_path / "b.mp4")
    assert from_folder(tmp_path).clips == (Clip("b", tmp_path / "b.mp4", None),)


def test_folder_with_names_twice(tmp_path):
    touch(
        tmp_path / "x" / "a.mp4",
        tmp_path / "y" / "a.mp4",
        tmp_path / "y" / "a.wav",
        tmp_path / "c.mp4",
    )
    clip_list = from_folder(tmp_path)
    assert [clip.clip_id for clip in clip_list.clips] == ["c", "x__a", "y__a.mp4", "y__a.wav"]
    assert any("3 files share their name" in note for note in clip_list.notes)


def test_folder_names_that_cannot_be_ids(tmp_path):
    touch(tmp_path / "a:b.mp4", tmp_path / "c.mp4")
    clip_list = from_folder(tmp_path)
    assert [clip.clip_id for clip in clip_list.clips] == ["c"]
    assert clip_list.problems[0].clip_id == "a:b"
    assert any("a:b: left out" in note for note in clip_list.notes)


def test_folder_bad_transcript_is_said(tmp_path):
    touch(tmp_path / "a.mp4")
    (tmp_path / "a.txt").write_bytes("你好".encode("gbk"))
    clip_list = from_folder(tmp_path)
    assert clip_list.clips[0].text == ""
    assert any("transcript not used: not UTF-8" in note for note in clip_list.notes)


def test_folder_links_do_not_loop(tmp_path):
    touch(tmp_path / "v" / "a.mp4")
    (tmp_path / "v" / "again").symlink_to(tmp_path)
    assert len(from_folder(tmp_path).clips) == 1


def test_folder_without_media(tmp_path):
    with pytest.raises(UsageError, match="no media files; looked for"):
        from_folder(tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        from_folder(tmp_path / "none")
