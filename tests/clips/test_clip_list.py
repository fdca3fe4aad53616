"""Clip lists: one bad row stops no other, and nothing is taken silently from two that differ."""

import csv
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer_store.clips.clip_list import Clip, ClipList
from mer_store.errors import UsageError

HEADER = "clip_id,path,text,label,split,fold\n"


def read(tmp_path, text, encoding="utf-8"):
    (tmp_path / "clips.csv").write_bytes(text.encode(encoding))
    return ClipList.read(tmp_path / "clips.csv")


def reasons(clip_list):
    return [(problem.line, problem.clip_id, problem.reason) for problem in clip_list.problems]


def test_full_row_and_bare_row(tmp_path):
    clip_list = read(tmp_path, HEADER + "a,v/a.mp4,你好,angry,labelled,3\nb,,,,,\n")
    assert clip_list.clips == (
        Clip("a", tmp_path / "v" / "a.mp4", "你好", "angry", "labelled", 3),
        Clip("b", None, "", None, None, None),
    )
    assert clip_list.problems == clip_list.notes == ()
    assert clip_list.path == tmp_path / "clips.csv"


def test_columns_in_any_order_and_absent_ones(tmp_path):
    (clip,) = read(tmp_path, "path, clip_id\na.wav,a\n").clips
    assert clip == Clip("a", tmp_path / "a.wav")
    assert clip.text is None  # no transcripts at all is not an empty transcript


def test_byte_order_mark_crlf_quotes_and_line_breaks(tmp_path):
    text = 'clip_id,text\r\na,"one, ""two""\r\nthree"\r\n\r\nb,\u2028x\r\n'
    clip_list = read(tmp_path, text, "utf-8-sig")
    assert [(c.clip_id, c.text) for c in clip_list.clips] == [
        ("a", 'one, "two"\r\nthree'), ("b", "\u2028x")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "clips.csv:1: expected a header with the column clip_id"),
        ("id,path\na,b\n", "clips.csv:1: expected a header .* got id, path"),
        ("clip_id;path\na;b\n", "clips.csv:1: .* separated by commas; got clip_id;path"),
        ("clip_id,path,path\n", "clips.csv:1: the column path is there twice"),
    ],
)
def test_bad_header(tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        read(tmp_path, text)


def test_not_utf8_names_the_line(tmp_path):
    with pytest.raises(UsageError, match=r"clips\.csv:3: not UTF-8"):
        read(tmp_path, "clip_id,text\na,x\nb,你好\n", "gbk")


def test_no_such_file(tmp_path):
    with pytest.raises(UsageError, match=r"none\.csv: the clip list cannot be read: No such file"):
        ClipList.read(tmp_path / "none.csv")


def test_unknown_columns_are_said(tmp_path):
    clip_list = read(tmp_path, "clip_id,speaker,path\na,x,a.wav\n")
    assert clip_list.notes == (f"{tmp_path / 'clips.csv'}:1: unknown columns, not used: speaker",)
    assert len(clip_list.clips) == 1


@pytest.mark.parametrize(
    ("row", "clip_id", "reason"),
    [
        ("x,x.wav,,,,,extra", "x", "expected 6 fields, got 7"),
        ("x", "x", "expected 6 fields, got 1"),
        (",x.wav,,,,", "", "empty clip_id"),
        ("a/b,x.wav,,,,", "a/b", "unsafe in a file name"),
        ("..,x.wav,,,,", "..", "unsafe in a file name"),
        ("a\tb,x.wav,,,,", "a\tb", "unsafe in a file name"),
        ("y" * 201 + ",x.wav,,,,", "y" * 201, "clip_id of 201 characters"),
        ("x,x.wav,,,train,", "x", "split 'train': expected labelled, unlabelled, test or nothing"),
        ("x,x.wav,,,,-1", "x", "fold '-1': expected a whole number"),
        ("x,x.wav,,,,²", "x", "fold '²': expected a whole number"),
        ("x,../x.wav,,,,", "x", "path outside the folder"),
        ("x,v/../../x.wav,,,,", "x", "path outside the folder"),
        ("x,v/..,,,,", "x", "names no file"),
        ("x,v/,,,,", "x", "names no file"),
        ('x,"a"b,,,,', "", "not CSV"),
    ],
)
def test_bad_row_stops_no_other(tmp_path, row, clip_id, reason):
    clip_list = read(tmp_path, f"{HEADER}good1,a.wav,,,,\n{row}\ngood2,b.wav,,,,\n")
    assert [clip.clip_id for clip in clip_list.clips] == ["good1", "good2"]
    ((line, problem_id, came),) = reasons(clip_list)
    assert (line, problem_id) == (3, clip_id)
    assert reason in came


def test_same_row_twice_is_taken_once_and_said(tmp_path):
    clip_list = read(tmp_path, "clip_id,path\na,a.wav\nb,b.wav\na,a.wav\n")
    assert [clip.clip_id for clip in clip_list.clips] == ["a", "b"]
    assert clip_list.notes == ("a: lines 2 and 4 are the same: taken once",)
    assert clip_list.problems == ()


def test_rows_that_differ_leave_the_id_out(tmp_path):
    rows = "a,a.wav\nb,b.wav\na,other.wav\nc,c.wav\na,a.wav\nc,../c.wav\n"
    clip_list = read(tmp_path, f"clip_id,path\n{rows}")
    assert [clip.clip_id for clip in clip_list.clips] == ["b"]
    assert (2, "a", "duplicate id: lines 2, 4 and 6 differ") in reasons(clip_list)
    assert (5, "c", "duplicate id: lines 5 and 7 differ") in reasons(clip_list)


def test_lines_are_counted_in_the_file(tmp_path):
    clip_list = read(tmp_path, 'clip_id,text\na,"two\nlines"\nb,x,y\n')
    assert reasons(clip_list) == [(4, "b", "expected 2 fields, got 3")]


def test_absolute_paths_are_as_given(tmp_path):
    (clip,) = read(tmp_path, "clip_id,path\na,/elsewhere/a.wav\n").clips
    assert str(clip.path) == "/elsewhere/a.wav"


def test_symbolic_links_may_stay_inside_only(tmp_path):
    inside, outside = tmp_path / "list", tmp_path / "outside"
    (inside / "real").mkdir(parents=True)
    outside.mkdir()
    for folder in (inside / "real", outside):
        (folder / "a.wav").touch()
    (inside / "linked").symlink_to(inside / "real")
    (inside / "escape").symlink_to(outside)
    (inside / "real" / "leak.wav").symlink_to(outside / "a.wav")
    (inside / "real" / "fine.wav").symlink_to(inside / "real" / "a.wav")
    rows = "a,linked/a.wav\nb,escape/a.wav\nc,real/leak.wav\nd,real/fine.wav\n"
    clip_list = read(inside, f"clip_id,path\n{rows}")
    assert [clip.clip_id for clip in clip_list.clips] == ["a", "d"]
    assert [problem.clip_id for problem in clip_list.problems] == ["b", "c"]
    assert all("write it as an absolute path" in p.reason for p in clip_list.problems)


def test_a_list_read_through_a_link_keeps_its_clips(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "clips.csv").write_text("clip_id,path\na,a.wav\n", encoding="utf-8")
    assert len(ClipList.read(tmp_path / "link" / "clips.csv").clips) == 1


def test_missing_files(tmp_path):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "a.wav").touch()
    (tmp_path / "v" / "folder.wav").mkdir()
    rows = "a,v/a.wav\nb,v/b.wav\nc,nowhere/c.wav\nd,\ne,v/folder.wav\n"
    clip_list = read(tmp_path, f"clip_id,path\n{rows}")
    assert [clip.clip_id for clip in clip_list.missing_files()] == ["b", "c", "e"]


def test_written_list_reads_back(tmp_path):
    clips = (
        Clip("a", tmp_path / "v" / "a.mp4", 'he said "hm",\nthen', "anger", "labelled", 0),
        Clip("b", tmp_path.parent / "b.mp4", "", None, "test", None),
        Clip("c", None, "只有文字"),
    )
    ClipList(clips).write(tmp_path / "out.csv")
    assert ClipList.read(tmp_path / "out.csv").clips == clips
    rows = list(csv.reader((tmp_path / "out.csv").read_text("utf-8").splitlines()))
    assert rows[1][1] == "v/a.mp4"  # relative: the folder can be moved
    assert rows[2][1] == str(tmp_path.parent / "b.mp4")


def test_paths_through_a_link_are_written_so_that_they_read_back(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "link").symlink_to(tmp_path / "data")
    clips = (Clip("a", tmp_path / "lists" / "link" / "a.wav"),)
    ClipList(clips).write(tmp_path / "lists" / "clips.csv")
    assert ClipList.read(tmp_path / "lists" / "clips.csv").clips == clips


def test_writing_leaves_a_whole_list_or_the_old_one(tmp_path, monkeypatch):
    ClipList((Clip("old"),)).write(tmp_path / "clips.csv")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(UsageError, match="cannot be written: No space left"):
        ClipList((Clip("new"),)).write(tmp_path / "clips.csv")
    assert os.listdir(tmp_path) == ["clips.csv"]  # noqa: PTH208
    assert ClipList.read(tmp_path / "clips.csv").clips == (Clip("old"),)


ids = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20).filter(
    lambda text: not set(text) & set('/\\:*?"<>|') and text.strip(" .") == text
)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"))


@given(st.dictionaries(ids, st.tuples(texts, st.integers(0, 9))))
def test_any_texts_survive(tmp_path_factory, found):
    path = tmp_path_factory.mktemp("lists") / "clips.csv"
    clips = tuple(
        Clip(clip_id, None, text, None, None, fold) for clip_id, (text, fold) in found.items()
    )
    ClipList(clips).write(path)
    came = ClipList.read(path)
    assert came.problems == ()
    assert came.clips == clips
