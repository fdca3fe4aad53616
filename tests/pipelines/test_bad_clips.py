"""Every kind of bad clip has a ledger row with a clear reason, and the others are stored."""

import numpy as np
import pytest
from media_factory import bad_clips, make_video, make_wav

from extractors.contract import ExtractorRequest
from mer_store.clips.clip_list import ClipList
from mer_store.store.store import Store
from pipelines.extract import ExtractSettings, prepare

# What each kind must say: (status, words of the reason), or None where the clip is a good one.
AUDIO = {
    "truncated": ("failed", "truncated"),
    "no_audio": ("empty", "no audio track"),
    "silence": ("empty", "silence"),
    "ten_ms": ("empty", "160 samples"),
    "zero_bytes": ("failed", "0 bytes"),
    "wrong_extension": None,
    "text": ("failed", "not a media file"),
    "garbage": ("failed", "not a media file"),
    "unreadable": ("failed", "cannot be read|permission|not be opened|symbolic"),
    "directory": ("failed", "directory|folder"),
    "missing": ("failed", "not found|no such file|no file|missing"),
}
VISUAL = {
    "truncated": ("failed", "truncated"),
    "no_audio": ("empty", "no face"),
    "audio_only": ("empty", "no video track"),
    "zero_bytes": ("failed", "0 bytes"),
    "text": ("failed", "not a media file"),
}
TEXT = {"good": None, "latin": None, "emoji": None, "blank": ("empty", "empty transcript"),
        "none": ("empty", "no transcript|empty transcript")}  # fmt: skip


@pytest.fixture(scope="module")
def clip_list(tmp_path_factory) -> ClipList:
    folder = tmp_path_factory.mktemp("bad")
    paths = bad_clips(folder)
    paths |= {
        "good": make_wav(folder / "good.wav", 1.0),
        "other": make_video(folder / "other.mp4", 1.0),
    }
    texts = {
        "good": "今天天气很好",
        "latin": "OK bye",
        "emoji": "好的👍🏽",
        "blank": "  ",
        "none": "",
    }
    names = [*paths, *(name for name in texts if name not in paths)]
    rows = [f"{name},{paths.get(name, '')},{texts.get(name, '')}" for name in names]
    rows += [f"twice,{paths['good']},", f"twice,{paths['other']},", "outside,../../etc/passwd,"]
    (folder / "clips.csv").write_text(
        "\n".join(["clip_id,path,text", *rows]) + "\n", encoding="utf-8"
    )
    return ClipList.read(folder / "clips.csv")


@pytest.fixture(scope="module")
def store(clip_list, tmp_path_factory) -> Store:
    store = Store.create(tmp_path_factory.mktemp("stores") / "store")
    for modality in ("audio", "visual", "text"):
        settings = ExtractSettings(ExtractorRequest(modality, "tiny"), n_decoders=2)
        prepare(store, clip_list, settings).run()
    return store


def outcomes(store, modality):
    features = store.features(modality, level="utterance")
    return {
        clip_id: (status.name.lower(), reason or "")
        for clip_id, status, reason in features.outcomes()
    }


@pytest.mark.parametrize(("modality", "kind", "expected"), [
    (modality, kind, expected)
    for modality, kinds in (("audio", AUDIO), ("visual", VISUAL), ("text", TEXT))
    for kind, expected in kinds.items()
])  # fmt: skip
def test_the_reason_is_clear(store, modality, kind, expected):
    import re

    status, reason = outcomes(store, modality)[kind]
    if expected is None:
        assert (status, reason) == ("ok", "")
        return
    assert status == expected[0]
    assert re.search(expected[1], reason), reason
    assert "\n" not in reason


@pytest.mark.parametrize("modality", ["audio", "visual", "text"])
def test_clips_the_list_refuses_are_in_the_ledger(store, modality):
    found = outcomes(store, modality)
    assert found["twice"][0] == found["outside"][0] == "failed"
    assert "duplicate id" in found["twice"][1]
    assert "outside the folder" in found["outside"][1]


def test_every_clip_has_a_row(store, clip_list):
    listed = {clip.clip_id for clip in clip_list.clips} | {
        problem.clip_id for problem in clip_list.problems
    }
    for modality in ("audio", "visual", "text"):
        assert set(outcomes(store, modality)) == listed


def test_the_good_ones_are_stored(store):
    rows = store.features("audio", level="utterance").read(
        [18], ["good", "other", "wrong_extension"]
    )
    assert rows.shape == (3, 1, 32)
    assert np.isfinite(rows).all()
    assert (np.abs(rows).max(axis=(1, 2)) > 0).all()
