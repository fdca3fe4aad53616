"""Batches hold every clip once, within their limit."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from extractors.batching import batches
from extractors.contract import Loaded

SIZES = st.lists(st.integers(1, 1000), max_size=60)


def clips(sizes):
    return [Loaded(f"c{i}", None, size, 0.0, 1) for i, size in enumerate(sizes)]


@given(SIZES, st.integers(1, 3000), st.booleans())
def test_every_clip_comes_once_and_no_batch_is_empty(sizes, limit, equal):
    loaded = clips(sizes)
    made = list(batches(loaded, limit, equal_sizes=equal))
    assert all(made)
    assert sorted(clip.clip_id for batch in made for clip in batch) == sorted(
        c.clip_id for c in loaded
    )


@given(SIZES, st.integers(1, 3000), st.booleans())
def test_padded_size_is_within_the_limit_unless_a_clip_alone_is_over_it(sizes, limit, equal):
    for batch in batches(clips(sizes), limit, equal_sizes=equal):
        assert len(batch) == 1 or max(clip.size for clip in batch) * len(batch) <= limit


@given(SIZES, st.integers(1, 3000))
def test_equal_sizes_never_mixes_them(sizes, limit):
    for batch in batches(clips(sizes), limit, equal_sizes=True):
        assert len({clip.size for clip in batch}) == 1


@given(SIZES, st.integers(1, 3000), st.booleans())
def test_batches_are_as_full_as_the_order_allows(sizes, limit, equal):
    made = list(batches(clips(sizes), limit, equal_sizes=equal))
    for batch, following in pairwise(made):
        size = following[0].size
        fits = size * (len(batch) + 1) <= limit and (not equal or size == batch[0].size)
        assert not fits


@given(SIZES, st.integers(1, 3000))
def test_sizes_ascend_and_equals_keep_their_order(sizes, limit):
    order = [
        (clip.size, int(clip.clip_id[1:]))
        for batch in batches(clips(sizes), limit)
        for clip in batch
    ]
    assert order == sorted(order)


def test_one_sized_clips_fill_batches():
    assert [len(batch) for batch in batches(clips([10] * 7), 30)] == [3, 3, 1]
