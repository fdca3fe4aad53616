"""Makes small stores and parts for tests."""

from collections.abc import Mapping
from hashlib import sha256

import numpy as np

from mer_store.spec import Spec
from mer_store.store.store import Store
from mer_store.store.writer import ClipRows, PartWriter

WIDTH = 4


def make_spec(level="frame", stored_dtype="float16", **changes):
    values = {
        "modality": "audio",
        "level": level,
        "model": "tiny",
        "weights": "sha256:0",
        "recipe": "default",
        "preprocessing": {"sampling_hz": 16000},
        "pooling": "none" if level == "frame" else "mean",
        "compute_dtype": "float32",
        "stored_dtype": stored_dtype,
        "trained": False,
    }
    return Spec(**values | changes)


def make_set(path, level="frame", **changes):
    return Store.create(path).ensure(make_spec(level, **changes))


def digest_of(text):
    return f"sha256:{sha256(text.encode()).hexdigest()}"


def values_of(clip_id, layer, n_rows, seed=0, width=WIDTH):
    """Numbers that float16 holds exactly, different for each clip, layer and seed."""
    rng = np.random.default_rng([*clip_id.encode(), *str(layer).encode(), seed])
    return rng.integers(-2000, 2000, (n_rows, width)).astype(np.float32)


def ok_clip(clip_id, layers=(18,), n_rows=3, seed=0, digest=None, tables=None, width=WIDTH):
    return ClipRows(
        clip_id,
        "ok",
        digest=digest or digest_of(clip_id),
        n_bytes=100,
        mtime_ns=200,
        layers={layer: values_of(clip_id, layer, n_rows, seed, width) for layer in layers},
        tables=tables or {},
    )


def write_part(feature_set, clips, layers=(18,), attempt=0):
    """Commit clips, given as ClipRows or as clip id -> number of rows."""
    if isinstance(clips, Mapping):
        clips = [ok_clip(clip_id, layers, n_rows) for clip_id, n_rows in clips.items()]
    with PartWriter(feature_set, layers, attempt, {"numpy": np.__version__}) as writer:
        for clip in clips:
            writer.add(clip)
        return writer.commit()


def part_folder(feature_set, record):
    return feature_set.path / "parts" / record.part_id
