"""Clips that are added together are stored as clips that are added one by one."""

from dataclasses import replace

import numpy as np
import pytest
from part_factory import digest_of, make_set, ok_clip, values_of

from mer_store.errors import UsageError
from mer_store.store import row_block
from mer_store.store.writer import ClipRows, PartWriter

LAYERS = (17, 18)


def one_row(n, width=4):
    return [ok_clip(f"clip{i:03d}", LAYERS, 1, width=width) for i in range(n)]


def written(path, clips, how, level="utterance"):
    made = make_set(path, level)
    with PartWriter(made, LAYERS) as writer:
        entered = how(writer, clips)
        return entered, writer.commit()


def one_by_one(writer, clips):
    return [writer.add(clip) for clip in clips]


def together(writer, clips):
    return writer.add_all(clips)


def without_rows(clip):
    return ClipRows(clip.clip_id, "failed", "no audio track", digest_of(clip.clip_id))


def changed(clip, layer, rows):
    return replace(clip, layers={**clip.layers, layer: rows})


def mixed():
    """All that can befall a clip among others, each more than once and at different places."""
    clips = one_row(400)
    for place in (0, 63, 64, 65, 130, 399):
        clips[place] = without_rows(clips[place])
    for place in (1, 150, 398):
        clips[place] = replace(clips[place], status="empty", reason=None, layers={})
    for place, value in ((3, np.nan), (200, np.inf), (201, -np.inf)):
        clips[place] = changed(clips[place], 17, np.full((1, 4), value, np.float32))
    clips[210] = changed(clips[210], 18, np.full((1, 4), 1e5, np.float32))  # float16 cannot hold it
    for place in (220, 221, 300):
        rows = {layer: rows.astype(np.float64) for layer, rows in clips[place].layers.items()}
        clips[place] = replace(clips[place], layers=rows)
    for place in (230, 231):  # every second value of a row: no plain piece of memory
        wide = np.repeat(values_of(clips[place].clip_id, 17, 1), 2, axis=1)
        clips[place] = changed(clips[place], 17, wide[:, ::2])
    return clips


@pytest.mark.parametrize("block_bytes", [1 << 23, 1 << 10, 32])
@pytest.mark.parametrize("clips", [one_row(0), one_row(1), one_row(130), mixed()], ids=len)
def test_the_part_is_the_same(tmp_path, monkeypatch, clips, block_bytes):
    if not clips:
        clips = [without_rows(clip) for clip in one_row(3)]
    monkeypatch.setattr(row_block, "BLOCK_BYTES", block_bytes)
    expected = written(tmp_path / "a", clips, one_by_one)
    found = written(tmp_path / "b", clips, together)
    assert found == expected


def test_side_tables_go_with_their_clips(tmp_path):
    clips = [
        replace(clip, tables={"images": {"second": np.arange(n % 3, dtype=np.float64)}})
        for n, clip in enumerate(one_row(100))
    ]
    assert written(tmp_path / "a", clips, together) == written(tmp_path / "b", clips, one_by_one)


def test_frames_are_added_as_ever(tmp_path):
    clips = [ok_clip(f"clip{n}", LAYERS, n) for n in range(70)]
    found = written(tmp_path / "a", clips, together, "frame")
    assert found == written(tmp_path / "b", clips, one_by_one, "frame")


def test_layers_of_different_width_stay_apart(tmp_path):
    clips = [changed(clip, 18, values_of(clip.clip_id, 18, 1, width=7)) for clip in one_row(100)]
    assert written(tmp_path / "a", clips, together) == written(tmp_path / "b", clips, one_by_one)


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda clips: [*clips, clips[5]], "clip005: added twice"),
        (lambda clips: [*clips, ok_clip("other", (17,), 1)], "other: expected the layers 17-18"),
        (lambda clips: [*clips, ok_clip("other", LAYERS, 2)], "expected one row"),
        (lambda clips: [*clips, ok_clip("other", LAYERS, 1, width=5)], "expected 4 wide"),
        (lambda clips: [*clips, replace(clips[0], clip_id="a\nb")], "printable"),
        (lambda clips: [*clips, replace(clips[0], clip_id="a", digest="")], "digest"),
        (lambda clips: [*clips, replace(clips[0], clip_id="a", status="fine")], "status"),
    ],
)
@pytest.mark.parametrize("n", [2, 40, 200])
def test_what_is_refused_alone_is_refused_together(tmp_path, spoil, match, n):
    clips = spoil(one_row(max(n, 6)))
    with pytest.raises(UsageError, match=match):
        written(tmp_path, clips, together)
