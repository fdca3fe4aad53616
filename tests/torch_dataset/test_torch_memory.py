"""Memory of batches: used again once nobody holds them, and never before."""

import os
import pickle
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from part_factory import make_set, values_of, write_part
from torch.utils.data import DataLoader

from mer_store import torch_memory
from mer_store.torch_dataset import FrameBatch, StoreDataset, pad_frames
from mer_store.torch_memory import MAX_KEPT, MAX_KEPT_SHARED, BatchMemory, received, send

HALF = np.dtype(np.float16)
LENGTHS = {f"c{number:02d}": 1 + number % 7 for number in range(30)}


@pytest.fixture
def dataset(tmp_path):
    write_part(make_set(tmp_path / "store"), LENGTHS, (18,))
    return StoreDataset(tmp_path / "store", "audio", level="frame", layers=[18])


@pytest.fixture
def memory(monkeypatch):
    """The memory of a process that has used none."""
    fresh = BatchMemory()
    monkeypatch.setattr(torch_memory, "_own", (os.getpid(), fresh))
    return fresh


def place_of(tensor):
    return tensor.untyped_storage().data_ptr()


def test_memory_is_used_again_once_no_view_of_it_is_left(memory):
    batch = memory.empty((2, 3), HALF)
    place, view = place_of(batch), batch[1:]
    del batch
    other = memory.empty((2, 3), HALF)
    assert place_of(other) != place
    del view
    assert place_of(memory.empty((3, 2), HALF)) == place


def test_a_larger_batch_takes_the_place_of_a_free_one(memory):
    place = place_of(memory.empty((4,), HALF))
    larger = memory.empty((100,), HALF)
    assert larger.shape == (100,)
    del larger
    assert place_of(memory.empty((4,), HALF)) != place
    assert len(memory._kept) == 1


def test_what_is_held_is_bounded_by_what_is_in_use(memory):
    held = [memory.empty((n + 1,), HALF) for n in range(MAX_KEPT + 3)]
    for number, batch in enumerate(held):
        batch[:] = number
    assert [float(batch[0]) for batch in held] == list(range(len(held)))
    assert len(memory._kept) == MAX_KEPT


def test_a_sent_block_comes_back_when_the_other_process_drops_it(memory):
    memory.shared = True
    batch = memory.empty((2, 2), HALF)
    batch[:] = torch.arange(4).reshape(2, 2)
    block = memory.shared_block(batch)
    there = received(send(block), (2, 2), HALF.str)
    part = there[1]
    del batch, there
    assert not block.free
    assert part.tolist() == [2, 3]
    del part
    assert block.free


def test_only_whole_batches_at_the_start_of_a_block_are_sent_as_such(memory):
    memory.shared = True
    batch = memory.empty((2, 3, 4), HALF)
    assert memory.shared_block(batch[1]) is None
    assert memory.shared_block(batch[:, :2]) is None
    assert memory.shared_block(batch[:1]) is memory._kept[0]


def test_a_batch_made_by_hand_can_be_sent():
    batch = FrameBatch(("a",), torch.ones(1, 2), torch.ones(1, 2, dtype=torch.bool))
    again = pickle.loads(ForkingPickler.dumps(batch))  # noqa: S301 - our own
    assert (again.clip_ids, again.features.tolist()) == (("a",), [[1, 1]])


def test_padding_is_zero_where_a_batch_was_before(dataset, memory):
    for indices in ([6, 5, 4], [0, 1, 3], [0, 6, 1]):
        batch = pad_frames(dataset.__getitems__(indices))
        assert not batch.features[~batch.mask].any()
        batch.features[:] = np.nan
        del batch
    assert len(memory._kept) == 1


@pytest.mark.parametrize(("n_workers", "start"), [(0, None), (1, "fork"), (2, "spawn")])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_batches_that_are_kept_are_not_overwritten(dataset, n_workers, start):
    loader = DataLoader(
        dataset, batch_size=2, collate_fn=pad_frames, num_workers=n_workers,
        multiprocessing_context=start, persistent_workers=n_workers > 0,
    )  # fmt: skip
    for _ in range(2):  # what the first epoch gave back is used by the second
        kept = list(loader)
        assert len(kept) > MAX_KEPT_SHARED > MAX_KEPT
        for batch in kept:
            for clip_id, rows, there in zip(
                batch.clip_ids, batch.features, batch.mask, strict=True
            ):
                values = values_of(clip_id, 18, LENGTHS[clip_id])
                np.testing.assert_array_equal(rows[there][:, 0], values)
