"""Small stores and folders for the exchange with MERTools."""

import numpy as np
from part_factory import make_spec, ok_clip, write_part

from mer_store.clips.clip_list import Clip, ClipList
from mer_store.store.store import Store
from mer_store.store.writer import ClipRows

LAST_FOUR = (21, 22, 23, 24)


def filled(store, clips, modality="audio", layers=LAST_FOUR, **spec):
    """Write a feature set: `clips` are ids of ok ones, or ClipRows."""
    spec = {"model": "chinese-hubert-large", "level": "utterance"} | spec
    feature_set = store.ensure(make_spec(modality=modality, **spec))
    n_rows = 1 if feature_set.spec.level == "utterance" else 3
    rows = [c if isinstance(c, ClipRows) else ok_clip(c, layers, n_rows) for c in clips]
    write_part(feature_set, rows, layers)
    return feature_set


def empty(clip_id, reason="no speech"):
    return ClipRows(clip_id, "empty", reason, f"sha256:{clip_id}")


def failed(clip_id):
    return ClipRows(clip_id, "failed", "truncated", f"sha256:{clip_id}")


def listed(*ids, **facts):
    return ClipList(tuple(Clip(clip_id, **facts) for clip_id in ids))


def new_store(path):
    return Store.create(path / "store")


def save(folder, clip_id, array):
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{clip_id}.npy", array)


def tree(folder):
    """Every file below a folder: relative path -> bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
