"""Small stores to share, and what must be true of them afterwards."""

from dataclasses import replace

import numpy as np
from part_factory import make_spec, ok_clip, write_part

from mer_store.remote.address import Address
from mer_store.remote.bucket import Bucket
from mer_store.remote.selection import Selection
from mer_store.remote.transfer import Transfer
from mer_store.store.store import Store
from mer_store.store.verify import verify

LAYERS = (17, 18)


def make_store(path, parts=2, clips=4, first=0, modality="audio", level="utterance", width=16):
    """Return a store of `parts` parts, of clips ``c0``, ``c1``, …, from number `first` on."""
    store = Store.create(path)
    feature_set = store.ensure(make_spec(level, modality=modality))
    for part in range(parts):
        add_part(feature_set, first + part * clips, clips, width=width)
    return store


def add_part(feature_set, first, clips, *, seed=0, mtime_ns=200, layers=LAYERS, width=16):
    """Write a part of clips from number `first` on."""
    n_rows = 1 if feature_set.spec.level == "utterance" else 3
    rows = [
        replace(ok_clip(f"c{n}", layers, n_rows, seed, width=width), mtime_ns=mtime_ns)
        for n in range(first, first + clips)
    ]
    return write_part(feature_set, rows, layers)


def push(store, url, **selection):
    return _moved(Transfer.push, store, url, selection)


def pull(store, url, **selection):
    return _moved(Transfer.pull, store, url, selection)


def _moved(direction, store, url, selection):
    with Transfer() as transfer:
        _, moved = direction(transfer, store, Address.parse(url), Selection(**selection))
    return moved


def bucket_at(url):
    return Bucket(Address.parse(url))


def numbers(store, modality="audio", layers=LAYERS, **which):
    """Return clip id -> [rows, layers, D] of everything in a store."""
    feature_set = store.features(modality, **which)
    ids = feature_set.clip_ids
    return dict(zip(ids, feature_set.ragged(layers, ids), strict=True))


def same(one, other):
    """Tell whether two tables of numbers are equal, bit by bit."""
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def clean(store):
    """Tell whether a store verifies, with clips in it."""
    return verify(store, deep=True) == [] and any(one.part_ids() for one in store.feature_sets())
