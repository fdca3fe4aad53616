"""Audio, visual and text in one pass: the features of three passes, media read once, stops survived."""

import os
import signal
import subprocess
import sys

import pytest
from three_streams import (
    MODALITIES,
    as_list,
    assert_same,
    break_audio,
    contents,
    one_pass,
    planned,
    recorded,
    save_models,
    talking_clips,
    talking_video,
)

from extractors.audio.extractor import AudioExtractor
from extractors.contract import ExtractorRequest
from extractors.media import blob
from extractors.text.extractor import TextExtractor
from extractors.visual.extractor import VisualExtractor
from mer_store.store.store import Store
from pipelines import resident
from pipelines.extract import ExtractSettings, Stream, prepare

#: What other batches do to a row in float32.
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    yield save_models(tmp_path_factory.mktemp("models"))
    resident.let_go()


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return talking_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def undisturbed(models, clips, tmp_path_factory):
    """What one pass over all, two clips to a part, leaves in a store."""
    store = tmp_path_factory.mktemp("whole") / "store"
    report = one_pass(store, clips, models, part_clips=2)
    assert (report.tally.n_ok, len(report.part_ids)) == (4, 12)
    return contents(store)


def test_one_pass_gives_what_three_give(models, clips, tmp_path):
    one_pass(tmp_path / "one", clips, models)
    for modality in MODALITIES:
        planned(tmp_path / "three", clips, models, modality).run()
    together = contents(tmp_path / "one")
    assert len(together) == 6, "two levels of three modalities"
    assert_same(together, contents(tmp_path / "three"))


@pytest.mark.parametrize(
    ("broken", "status", "reason"),
    [
        (True, "failed", "none of the audio can be decoded"),
        (False, "empty", "no audio track"),
    ],
)
def test_a_video_without_its_audio_keeps_its_pictures(models, tmp_path, broken, status, reason):
    paths = {"good": talking_video(tmp_path / "good.mp4")}
    paths["bad"] = talking_video(tmp_path / "bad.mp4", audio=broken, seed=1)
    if broken:
        break_audio(paths["bad"])
    store = tmp_path / "store"
    report = one_pass(store, as_list(paths), models, level="utterance")
    [said] = report.reasons
    assert said.startswith(f"audio: {reason}")
    opened = Store.open(store)
    told = {
        clip: (found.name.lower(), why) for clip, found, why in opened.features("audio").outcomes()
    }
    assert told["good"] == ("ok", None)
    assert told["bad"][0] == status
    assert reason in told["bad"][1]
    for modality in ("visual", "text"):
        assert sorted(opened.features(modality).clip_ids) == ["bad", "good"]
    again = planned(store, as_list(paths), models, *MODALITIES, level="utterance")
    assert again.plan.n_to_do == 0, "what is known of it is not found out again"


@pytest.fixture
def reads(monkeypatch):
    """The names of files, each time one is read."""
    names, real = [], blob._read_file

    def read(clip_id, path):
        names.append(path.name)
        return real(clip_id, path)

    monkeypatch.setattr(blob, "_read_file", read)
    return names


def test_media_are_read_once_in_one_pass_and_each_time_in_several(models, clips, tmp_path, reads):
    """Text has no media; stored crops are a third look at the video."""
    once = sorted(clip.path.name for clip in clips.clips)
    visual = ExtractorRequest("visual", str(models["visual"]), device="cpu")
    crops = ExtractorRequest("visual", "crops:jpeg", device="cpu")
    streams = [Stream(visual), Stream(crops), Stream(ExtractorRequest("text", str(models["text"])))]
    audio = Stream(ExtractorRequest("audio", str(models["audio"]), device="cpu"), "2")

    def passes(name, *groups):
        reads.clear()
        for first, *others in groups:
            settings = ExtractSettings(
                first.request, first.layers, others=tuple(others), progress="none"
            )
            prepare(Store.create(tmp_path / name), clips, settings).run()
        return sorted(reads)

    assert passes("one", [audio, *streams]) == once
    assert passes("each", *([stream] for stream in (audio, *streams))) == sorted(once * 3)
    assert_same(contents(tmp_path / "one"), contents(tmp_path / "each"))


def test_one_reading_serves_all(models, tmp_path, monkeypatch):
    """Each file is gone once it was read: nothing may come back to it."""
    clips, real = talking_clips(tmp_path, 2), blob._read_file

    def read_and_remove(clip_id, path):
        held = real(clip_id, path)
        path.unlink()
        return held

    monkeypatch.setattr(blob, "_read_file", read_and_remove)
    report = one_pass(tmp_path / "store", clips, models)
    assert (report.tally.n_ok, report.tally.n_failed) == (2, 0)
    assert report.reasons == {}


@pytest.mark.parametrize("extractor", [AudioExtractor, VisualExtractor, TextExtractor])
def test_ctrl_c_in_any_modality_and_again(
    models, clips, undisturbed, tmp_path, monkeypatch, extractor
):
    """It comes while that modality's model computes its first batch: what there is by then is kept."""
    calls, real, store = [], extractor.__call__, tmp_path / "store"

    def interrupted(self, batch, want):
        calls.append(len(batch))
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, batch, want)

    with monkeypatch.context() as patch:
        patch.setattr(extractor, "__call__", interrupted)
        first = one_pass(store, clips, models, part_clips=2)
    assert first.stopped
    before = recorded(store)
    assert 0 < sum(map(len, before.values())) < 24, "some are done, and some are not"
    assert_finished_by_another_run(store, clips, models, before, undisturbed)


KILLED_AT_COMMIT = """
import os, signal, sys, threading
sys.path[:0] = sys.argv[1].split(os.pathsep)
from pathlib import Path
from mer_store.clips.clip_list import ClipList
from mer_store.store.writer import PartWriter
from three_streams import MODALITIES, one_pass
commit, left, one_at_a_time = PartWriter.commit, int(sys.argv[5]), threading.Lock()

def killing(self):
    global left
    with one_at_a_time:
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return commit(self)

PartWriter.commit = killing
models = {name: Path(sys.argv[4]) / folder
          for name, folder in zip(MODALITIES, ("speech", "images", "language"))}
one_pass(Path(sys.argv[2]), ClipList.read(sys.argv[3]), models, part_clips=2)
"""


def test_killed_between_two_commits_and_again(models, clips, undisturbed, tmp_path):
    """Two parts have six commits each: nine are all of one and half of the other, or most of both."""
    store, n_commits = tmp_path / "store", 9
    clips.write(tmp_path / "clips.csv")
    line = [
        sys.executable,
        "-c",
        KILLED_AT_COMMIT,
        os.pathsep.join(path for path in sys.path if path),
    ]
    line += [store, tmp_path / "clips.csv", models["audio"].parent, n_commits]
    killed = subprocess.run(list(map(str, line)), capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    before = recorded(store)
    assert sum(map(len, before.values())) == 2 * n_commits
    assert_finished_by_another_run(store, clips, models, before, undisturbed)


def assert_finished_by_another_run(store, clips, models, before, undisturbed):
    """It makes what is missing and nothing else; in the end all is there, as if nothing had happened."""
    plan = planned(store, clips, models, *MODALITIES, part_clips=2).plan
    asked = {
        (level.spec.name, source.clip_id)
        for part in plan.parts
        for stream in part.streams
        for level in stream.levels
        for source in part.sources
    }
    ids = {clip.clip_id for clip in clips.clips}
    done = {(name, clip_id) for name, rows in before.items() for clip_id, _ in rows}
    assert asked == {(name, clip_id) for name in undisturbed for clip_id in ids} - done
    assert not one_pass(store, clips, models, part_clips=2).stopped
    assert recorded(store) == {
        name: sorted((clip_id, "ok") for clip_id in ids) for name in undisturbed
    }, "each clip once"
    assert_same(contents(store), undisturbed, ROUNDING)
