"""Each stage of an extraction alone, on a sample of the clips, with the engine's own parts."""

import os
import tempfile
import time
from contextlib import closing
from pathlib import Path

from scale_device import LAYERS, LOG, FakeDevice, features_of, make_clips, seconds_of
from scale_runs import Setup

from extractors.batching import batches
from extractors.contract import ExtractorRequest, Loaded, Source, Want
from mer_store.store.store import Store
from mer_store.store.writer import ClipRows, PartWriter
from pipelines.extract import spec_of
from pipelines.feed import feed

N_SAMPLED = 8192


def stages_alone(setup: Setup, n_decoders: int) -> dict[str, float]:
    """Return the seconds that each stage takes for the whole corpus with the machine to itself."""
    n = min(N_SAMPLED, setup.n_clips)
    os.environ.pop(LOG)
    device = FakeDevice(ExtractorRequest("audio"))
    with tempfile.TemporaryDirectory(dir=setup.folder) as name:
        clips = make_clips(Path(name), n).clips
        sources = [Source(clip.clip_id, clip.path) for clip in clips]
        share = setup.n_clips / n
        loaded, reading_s = _read(device, sources, n_decoders)
        return {
            "reading": share * reading_s,
            "device": _compute(device, loaded, setup),
            "writing": share * _write(device, loaded, setup, Path(name)),
        }


def _read(device: FakeDevice, sources: list[Source], n_decoders: int) -> tuple[list[Loaded], float]:
    started_s = time.perf_counter()
    with closing(feed([device], sources, n_decoders, [device.batch_limit])) as fetched:
        loaded = [item.loaded for [item] in fetched]
    elapsed_s = time.perf_counter() - started_s
    assert len(loaded) == len(sources)
    return [one for one in loaded if isinstance(one, Loaded)], elapsed_s


def _compute(device: FakeDevice, loaded: list[Loaded], setup: Setup) -> float:
    """Return the device's time: measured for the sample, in the ratio of the seconds of audio."""
    started_s = time.perf_counter()
    for batch in batches(loaded, device.batch_limit):
        device(batch, Want(LAYERS))
    elapsed_s = time.perf_counter() - started_s
    sampled_s = sum(one.media_s for one in loaded)
    return elapsed_s * sum(map(seconds_of, range(setup.n_clips))) / sampled_s


def _write(device: FakeDevice, loaded: list[Loaded], setup: Setup, folder: Path) -> float:
    """Write and commit parts of features that are in memory."""
    rows = [
        ClipRows(
            one.clip_id, "ok", digest="sha256:" + "0" * 64, n_bytes=64, mtime_ns=1,
            layers={layer: features_of(one.payload, layer, setup.width)[None] for layer in LAYERS},
        )
        for one in loaded
    ]  # fmt: skip
    features = Store.create(folder / "store").ensure(
        spec_of(device.identity, "utterance", "float16")
    )
    started_s = time.perf_counter()
    for start in range(0, len(rows), setup.part_clips):
        with PartWriter(features, LAYERS) as writer:
            for clip in rows[start : start + setup.part_clips]:
                writer.add(clip)
            writer.commit()
    return time.perf_counter() - started_s
