"""The stores that `storage.py` writes and reads: ours, of one part and of many, and the rivals'."""

import os
import shutil
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from storage_data import Array, Data
from storage_rivals import Rival, rivals
from storage_rounds import Bench, Job, Prepare, Way, cold, warm

#: Warm, so many different picks are read one after the other, as trainers do: of one call of half a
#: millisecond much is what the processor's caches held before it.
N_WARM = 8
WRITTEN = "makes crc32c of chunks and clips, SHA-256 of files"
#: What is known of a miss.
BY_CLIP = (
    "0.02 ms of one processor a clip, its copy, its checksums and its row of the ledger, where 12 KB are "
    "written in 0.01 ms"
)
BY_PART = (
    "after a part's last row its last block is hashed, then files, texts, folders and the record are "
    "synced, one after the other: as long as writing 32 MB"
)

Picks = Sequence[Array]
"""Numbers of clips, [clips] a call."""
EVERYTHING: Picks = (np.empty(0, np.int64),)
"""One call, which is not told which clips."""


def picked(n_clips: int, n_asked: int) -> list[Array]:
    """Return picks of so many of the clips."""
    rng = np.random.default_rng(n_asked)
    return [rng.choice(n_clips, n_asked, replace=False) for _ in range(N_WARM)]


class Stores:
    """Features, written as plain files, by the rivals and as a store of one part and of many."""

    def __init__(self, bench: Bench, data: Data, n_parts: int, beside: Sequence[str]) -> None:
        self.bench, self.data, self.n_parts = bench, data, n_parts
        self.rivals = {name: rival for name, rival in rivals(data).items() if name in beside}
        self.many_name = f"store in {n_parts} parts"

    def write(self) -> None:
        """Write every layer, durably, and keep it."""
        data = self.data
        by_clip = f"{BY_CLIP}; then " if data.level == "utterance" else ""
        ways = {
            "tofile": Way(self._fresh(data.write_raw)),
            "store": Way(
                self._fresh(partial(data.write_store, "again", 1)), WRITTEN, 0.8, by_clip + BY_PART
            ),
            self.many_name: Way(
                self._fresh(partial(data.write_store, "again", self.n_parts)),
                WRITTEN,
                0.6,
                by_clip + BY_PART,
            ),
        }
        ways |= {name: Way(self._fresh(rival.write)) for name, rival in self.rivals.items()}
        self.bench.run(f"write {data.level}s, {data.n_bytes / 1e6:.0f} MB", ways)
        data.write_raw()
        for rival in self.rivals.values():
            rival.write()
        self.whole, self.many = data.write_store("whole", 1), data.write_store("many", self.n_parts)

    def _fresh(self, job: Job) -> Prepare:
        """Prepare an empty disk."""

        def prepare() -> Job:
            shutil.rmtree(self.data.root)
            self.data.root.mkdir()
            os.sync()  # what was removed is given back now, not in the next job's time
            return job

        return prepare

    def both(
        self,
        title: str,
        hot: dict[str, Way],
        chilled: dict[str, Way],
        read: Callable[[Rival, Picks], Job],
        picks: Picks = EVERYTHING,
    ) -> None:
        """Run ways to read all picks warm, others the first pick cold, and the rivals' both warm and cold."""
        for state, own, change, asked in (
            ("warm", hot, warm, picks),
            ("cold", chilled, cold(self.data.root), picks[:1]),
        ):
            ways = own | {
                name: Way(partial(read, rival, asked), rival.checks)
                for name, rival in self.rivals.items()
            }
            changed = {name: way.prepared(change) for name, way in ways.items()}
            self.bench.run(f"{title}, {state}", changed, len(asked))
            del ways, changed  # what they map, the kernel would keep
