"""What a dead worker had in hand, and what is done about it."""

from dataclasses import replace

import pytest
from fake_extractor import FakeExtractor

from extractors.contract import ClipFailed, ExtractorRequest, Source, Want
from pipelines.in_hand import Noted, read_in_hand
from pipelines.remainder import MAX_ALONE, split
from pipelines.work import PartWork

WANT = Want(utterance=(1,))


@pytest.fixture
def clip(tmp_path):
    def write(clip_id: str, text: str) -> Source:
        path = tmp_path / f"{clip_id}.txt"
        path.write_text(text)
        return Source(clip_id, path)

    return write


@pytest.fixture
def note(tmp_path):
    return tmp_path / "new" / "note"


@pytest.fixture
def noted(note):
    with Noted(FakeExtractor(ExtractorRequest("audio")), note) as extractor:
        yield extractor


def test_a_clip_is_in_hand_from_its_opening_until_it_is_decoded(noted, note, clip):
    first, second = noted.open(clip("片段 1", "hello")), noted.open(clip("b", "hello"))
    assert read_in_hand(note) == {"片段 1", "b"}
    noted.load(first)
    assert read_in_hand(note) == {"b"}
    noted.load(second)
    assert read_in_hand(note) == frozenset()


def test_the_models_clips_are_in_hand_while_it_computes(note, clip):
    class Looking(FakeExtractor):
        def __call__(self, batch, want):
            self.seen = read_in_hand(note)
            return super().__call__(batch, want)

    extractor = Looking(ExtractorRequest("audio"))
    with Noted(extractor, note) as noted:
        batch = [noted.load(noted.open(clip(name, "hello"))) for name in "ab"]
        noted(batch, WANT)
    assert extractor.seen == {"a", "b"}
    assert read_in_hand(note) == frozenset()


def test_clips_and_models_that_fail_are_laid_down(noted, note, clip):
    with pytest.raises(ClipFailed):
        noted.load(noted.open(clip("f", "fail")))
    with pytest.raises(ClipFailed):
        noted.open(Source("gone", note.parent / "gone.txt"))
    batch = [noted.load(noted.open(clip("p", "poison")))]
    with pytest.raises(RuntimeError):
        noted(batch, WANT)
    assert read_in_hand(note) == frozenset()


def test_a_note_that_cannot_be_written_stops_nothing(tmp_path, clip):
    (tmp_path / "file").touch()
    with Noted(FakeExtractor(ExtractorRequest("audio")), tmp_path / "file" / "note") as noted:
        noted.load(noted.open(clip("a", "hello")))
    assert read_in_hand(tmp_path / "file" / "note") is None


def part(n_clips: int) -> PartWork:
    sources = tuple(Source(f"c{number}") for number in range(n_clips))
    return PartWork("store", (), sources, rejected={"bad": "why"})


def ids(work: PartWork) -> list[str]:
    return [source.clip_id for source in work.sources]


def test_clips_in_hand_at_two_deaths_are_set_apart():
    [again] = split(part(9), 1, frozenset({"c1", "c4", "c5"}))
    assert ids(again) == ids(part(9))
    rest, *alone = split(again, 1, frozenset({"c4", "c5", "c8"}))
    assert ids(rest) == ["c0", "c1", "c2", "c3", "c6", "c7", "c8"]
    assert [ids(work) for work in alone] == [["c4"], ["c5"]]
    assert [dict(work.rejected) for work in (rest, *alone)] == [{"bad": "why"}, {}, {}]
    [again] = split(alone[0], 1, frozenset({"c4"}))
    assert ids(again) == ["c4"], "two deaths among others may have been anybody's doing"
    [blamed] = split(again, 1, frozenset({"c4"}))
    assert (ids(blamed), list(blamed.rejected)) == ([], ["c4"])


def test_kills_with_no_clip_in_common_blame_and_split_nothing():
    work = part(9)
    for number in range(8):
        [work] = split(work, 1, frozenset({f"c{number}"}))
    assert ids(work) == ids(part(9))


def test_a_clip_found_late_is_still_found():
    """The first deaths were somebody's kills; the note of the last ones starts anew."""
    [work] = split(part(9), 1, frozenset({"c1"}))
    [work] = split(work, 1, frozenset({"c2"}))
    for _ in range(3):
        rest, *alone = split(work, 1, frozenset({"c7"}))
        if alone:
            break
        work = rest
    assert [ids(work) for work in alone] == [["c7"]]


def test_too_many_suspects_and_no_notes_are_halved():
    work = replace(part(40), n_deaths=1, suspects=frozenset(ids(part(40))))
    for in_hand in (frozenset(ids(work)[: MAX_ALONE + 1]), frozenset(ids(work)), None):
        assert [len(half.sources) for half in split(work, 1, in_hand)] == [20, 20]
