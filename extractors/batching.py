"""Batches: clips of like size together, bounded by their padded size."""

from collections.abc import Iterator, Sequence

from extractors.contract import Loaded


def batches(
    loaded: Sequence[Loaded], limit: int, equal_sizes: bool = False
) -> Iterator[list[Loaded]]:
    """Group clips so that a batch padded to its longest costs `limit` at most.

    Parameters
    ----------
    loaded
        Decoded clips, in any order.
    limit
        Padded size of a batch, the longest size times the number of clips, in the unit of `Loaded.size`. A
        clip that is larger alone is a batch of its own.
    equal_sizes
        Put only clips of one size together, for models whose numbers padding would change.

    Yields
    ------
    list
        At least one clip; every clip comes once, shortest first, those of one size in their given order.
    """
    batch: list[Loaded] = []
    for clip in sorted(loaded, key=lambda clip: clip.size):
        too_large = clip.size * (len(batch) + 1) > limit
        if batch and (too_large or (equal_sizes and clip.size != batch[0].size)):
            yield batch
            batch = []
        batch.append(clip)
    if batch:
        yield batch
