"""The feed: in order, a bounded way ahead, quick to stop, whatever a decoder does."""

import threading

import pytest
from fake_extractor import FakeExtractor

from extractors.contract import Blob, ClipFailed, ExtractorRequest, Loaded, Origin, Source
from pipelines.feed import MAX_BATCHES_AHEAD, MAX_CLIPS_AHEAD, feed, windows

N_THREADS = 4


class Decoder(FakeExtractor):
    """Clips whose size is their id; counts what is decoded and not yet consumed."""

    def __init__(self) -> None:
        super().__init__(ExtractorRequest("audio"))
        self.lock = threading.Lock()
        self.n_decoded = 0
        self.gate = threading.Event()
        self.gate.set()

    def open(self, source):
        return Blob(source.clip_id, Origin("sha256:0", 1, None), None, source.clip_id.encode())

    def load(self, blob):
        self.gate.wait()
        size = int(blob.clip_id.split("-", 1)[1])
        if size < 0:
            raise [KeyboardInterrupt, MemoryError, SystemExit][-size - 1]
        with self.lock:
            self.n_decoded += 1
        return Loaded(blob.clip_id, None, size, 1.0, 1)


def sources(*sizes: int) -> list[Source]:
    return [Source(f"{number}-{size}") for number, size in enumerate(sizes)]


def fed(decoder, clips, n_threads, limit, *stopped):
    """Feed one decoder alone."""
    for [item] in feed([decoder], clips, n_threads, [limit], *stopped):
        yield item


def idle(decoder: Decoder) -> int:
    """Wait until the decoding threads rest, by letting them run while nobody consumes."""
    for _ in range(200):
        before = decoder.n_decoded
        threading.Event().wait(0.02)
        if decoder.n_decoded == before:
            return before
    return decoder.n_decoded


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_it_stays_a_bounded_way_ahead(size):
    decoder, limit = Decoder(), 100
    clips = sources(*[size] * 400)
    stream = fed(decoder, clips, N_THREADS, limit)
    for n_taken in range(1, 4):
        next(stream)
        n_ahead = idle(decoder) - n_taken
        assert n_ahead * size <= MAX_BATCHES_AHEAD * limit + N_THREADS * size
        assert n_ahead <= MAX_CLIPS_AHEAD
        assert n_ahead >= 1, "decoding goes on beside whoever consumes"
    stream.close()


@pytest.mark.parametrize("n_threads", [1, 2, 16])
def test_order_is_kept_and_nothing_is_lost(n_threads):
    clips = sources(*[1 + 37 * number % 90 for number in range(300)])
    found = [item.source for item in fed(Decoder(), clips, n_threads, 50)]
    assert found == clips


def test_no_clips():
    assert list(fed(Decoder(), [], 2, 50)) == []


def test_whatever_a_decoder_raises_is_its_clips_outcome():
    found = list(fed(Decoder(), sources(5, -1, -2, -3, 5), 2, 50))
    kinds = [type(item.loaded) for item in found]
    assert kinds == [Loaded, ClipFailed, ClipFailed, ClipFailed, Loaded]
    assert "SystemExit" in str(found[3].loaded)


def test_a_stop_does_not_wait_for_a_long_decode():
    decoder, stop = Decoder(), threading.Event()
    decoder.gate.clear()
    threading.Timer(0.1, stop.set).start()
    try:
        assert list(fed(decoder, sources(*[1] * 50), 2, 50, stop.is_set)) == []
    finally:
        decoder.gate.set()


def test_windows_hold_every_clip_once():
    clips = sources(*[10] * 95)
    groups = list(windows(feed([Decoder()], clips, 2, [50]), [50], 4, max_clips=8))
    assert [item.source for group in groups for [item] in group] == clips
    assert {len(group) for group in groups} == {8, 95 % 8}
