"""The torch dataset: order, padding, workers by fork and by spawn."""

import pickle

import numpy as np
import pytest
import torch
from part_factory import make_set, ok_clip, values_of, write_part
from torch.utils.data import DataLoader

from mer_store.errors import UsageError
from mer_store.torch_dataset import StoreDataset, pad_frames

LENGTHS = {f"c{number}": 1 + number % 5 for number in range(12)}
LAYERS = (15, 18)


@pytest.fixture
def store(tmp_path):
    frames = make_set(tmp_path / "store")
    ids = list(LENGTHS)
    for half in (ids[:7], ids[7:]):
        write_part(frames, {clip_id: LENGTHS[clip_id] for clip_id in half}, LAYERS)
    pooled = make_set(tmp_path / "store", level="utterance")
    write_part(pooled, [ok_clip(clip_id, LAYERS, 1) for clip_id in ids], LAYERS)
    return tmp_path / "store"


def expected(clip_id, n_rows):
    return np.stack([values_of(clip_id, layer, n_rows) for layer in LAYERS], axis=1)


def test_clips_come_in_the_order_asked(store):
    dataset = StoreDataset(store, "audio", level="frame", layers=LAYERS, clip_ids=["c8", "c1"])
    assert [clip.clip_id for clip in (dataset[0], dataset[1])] == ["c8", "c1"]
    np.testing.assert_array_equal(dataset[0].features, expected("c8", LENGTHS["c8"]))


def test_all_clips_at_utterance_level(store):
    dataset = StoreDataset(store, "audio", level="utterance", layers=LAYERS)
    assert set(dataset.clip_ids) == set(LENGTHS)
    for clip in (dataset[index] for index in range(len(dataset))):
        np.testing.assert_array_equal(clip.features, expected(clip.clip_id, 1)[0])


@pytest.mark.parametrize(("n_workers", "start"), [(0, None), (2, "fork"), (2, "spawn")])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_loaders_give_every_clip_once_and_padded(store, n_workers, start):
    dataset = StoreDataset(store, "audio", level="frame", layers=LAYERS)
    dataset[0]  # the store is open when workers are forked
    loader = DataLoader(
        dataset, batch_size=5, shuffle=True, collate_fn=pad_frames, num_workers=n_workers,
        multiprocessing_context=start, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    seen = []
    for batch in loader:
        n_frames = batch.mask.sum(dim=1)
        assert batch.features.shape == (len(batch.clip_ids), int(n_frames.max()), 2, 4)
        for row, clip_id in enumerate(batch.clip_ids):
            assert n_frames[row] == LENGTHS[clip_id]
            rows = batch.features[row]
            np.testing.assert_array_equal(
                rows[batch.mask[row]], expected(clip_id, LENGTHS[clip_id])
            )
            assert not rows[~batch.mask[row]].any()
        seen += batch.clip_ids
    assert sorted(seen) == sorted(LENGTHS)


def test_clips_without_the_layers_are_named(store):
    with pytest.raises(UsageError, match=r"1 of 2 clips lack .*: nobody; run `mer-store extract"):
        StoreDataset(store, "audio", level="frame", layers=LAYERS, clip_ids=["c0", "nobody"])


def test_a_pickled_dataset_opens_the_store_anew(store):
    dataset = StoreDataset(store, "audio", level="frame", layers=LAYERS)
    dataset[0]
    again = pickle.loads(pickle.dumps(dataset))  # noqa: S301 - our own
    np.testing.assert_array_equal(again[3].features, dataset[3].features)
