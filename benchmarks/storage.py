"""How near to the disk's own limit the store writes and reads, beside plain files and other libraries.

Every number is a ratio to the limit, which is timed just before, so that whatever else the machine does hits
both; the table shows medians. 1.0 is the limit, 0.5 takes twice as long. Warm: all is in memory and was read
once, so that no checksum is left to verify. Cold: the files were opened anew, nothing of them is in memory.

    python benchmarks/storage.py                       a few minutes
    python benchmarks/storage.py --utterances 115595 --clips 1024 --rounds 5
"""

import argparse
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from storage_data import LAYERS, Array, Data, opened, pread_rows
from storage_rivals import NAMES, Read, Rival, rivals
from storage_rounds import Bench, Job, Prepare, Way, cold, warm

from mer_store.store.feature_set import FeatureSet

LAYER = 18
N_ROWS = 1024
N_CLIPS_PICKED = 16
WRITTEN = "makes crc32c of chunks and clips, SHA-256 of files"
EACH_TIME = "crc32c of every chunk, each time"
BEFORE = "crc32c of the chunks touched, before the first time"
TOUCHED = "crc32c of the chunks touched"
CHUNKS = "small spans of many files are asked for one by one"
BY_NAME = "finding the clips by name takes longer than copying their rows"
NOTHING = "sizes, the index of the shard"
#: What is known of a miss.
BY_CLIP = (
    "0.02 ms of one processor a clip, its copy, its checksums and its row of the ledger, where 12 KB are "
    "written in 0.01 ms"
)
BY_PART = (
    "after a part's last row its last block is hashed, then files, texts, folders and the record are "
    "synced, one after the other: as long as writing 32 MB"
)
IN_PIECES = (
    "four fifths are the read calls, a quarter slower for leaving out the checksums between chunks"
)
OPENING = "three quarters are the read calls; then the clips are sorted, once an opened feature set"
BY_RUN = "20 to 80 us of Python a clip and layer, the fewer the clips the more"


class Stores:
    """Features, written as plain files, by the rivals and as a store of one part and of many."""

    def __init__(self, bench: Bench, data: Data, n_parts: int, beside: Sequence[str]) -> None:
        self.bench, self.data, self.n_parts = bench, data, n_parts
        self.rivals = {name: rival for name, rival in rivals(data).items() if name in beside}
        self.many_name = f"store in {n_parts} parts"

    def write(self) -> None:
        """Write every layer, durably, and keep it."""
        data = self.data
        why = BY_CLIP if data.level == "utterance" else BY_PART
        ways = {
            "tofile": Way(self._fresh(data.write_raw)),
            "store": Way(self._fresh(partial(data.write_store, "again", 1)), WRITTEN, 0.8, why),
            self.many_name: Way(
                self._fresh(partial(data.write_store, "again", self.n_parts)), WRITTEN, 0.6, why
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
        read: Callable[[Rival], Read],
    ) -> None:
        """Run ways to read warm, others cold, and the rivals' both warm and cold."""
        others = {
            name: Way(partial(read, rival), rival.checks) for name, rival in self.rivals.items()
        }
        for state, own, change in (("warm", hot, warm), ("cold", chilled, cold(self.data.root))):
            ways = {name: way.prepared(change) for name, way in (own | others).items()}
            self.bench.run(f"{title}, {state}", ways)
            del ways  # what they map, the kernel would keep


def whole_layer(stores: Stores) -> None:
    """Read one layer of all clips."""
    data = stores.data

    def reading(*, verify: bool) -> Prepare:
        def make() -> Job:
            own = opened(stores.whole)
            return lambda: own.read([LAYER], verify=verify)

        return make

    limit = Way(lambda: lambda: np.fromfile(data.raw_path(LAYER), np.float16))
    verified, plain = reading(verify=True), reading(verify=False)
    stores.both(
        f"a whole layer of {len(data.ids):,} clips",
        {
            "fromfile": limit,
            "store, not verified": Way(plain, NOTHING, 1.0, IN_PIECES),
            "store": Way(verified, EACH_TIME, 0.5, IN_PIECES),
        },
        {
            "fromfile": limit,
            "store, not verified": Way(plain, NOTHING, 0.95, OPENING),
            "store": Way(verified, EACH_TIME, 0.95, OPENING),
        },
        lambda rival: rival.layer(LAYER),
    )


def random_rows(stores: Stores) -> None:
    """Read one layer of some clips, in no order."""
    data = stores.data
    n_rows = min(N_ROWS, len(data.ids))
    numbers = np.random.default_rng(0).choice(len(data.ids), n_rows, replace=False)
    ids = [data.ids[n] for n in numbers.tolist()]
    starts, n_bytes = numbers * data.row_bytes, np.full(n_rows, data.row_bytes)

    def mapped() -> Job:
        rows = data.mapped(LAYER)
        return lambda: rows[numbers]

    def held() -> Job:
        rows = stores.whole.read([LAYER], data.ids)[:, 0]
        return lambda: rows[numbers]

    def reading(feature_set: FeatureSet, *, verify: bool = True) -> Prepare:
        def make() -> Job:
            own = opened(feature_set)
            return lambda: own.read([LAYER], ids, verify=verify)

        return make

    stores.both(
        f"{n_rows} random rows",
        {
            "memmap": Way(mapped),
            "store": Way(reading(stores.whole), BEFORE, 0.5, BY_NAME),
            stores.many_name: Way(reading(stores.many), BEFORE),
            "store, held in memory": Way(held, BEFORE, 0.9),
        },
        {
            "8-thread pread": Way(
                lambda: partial(pread_rows, [data.raw_path(LAYER)], starts, n_bytes)
            ),
            "store, not verified": Way(reading(stores.whole, verify=False), NOTHING, 1.0),
            "store": Way(reading(stores.whole), TOUCHED, 1.0),
            stores.many_name: Way(reading(stores.many), TOUCHED),
            "memmap": Way(mapped),
        },
        lambda rival: rival.rows(LAYER, numbers),
    )


def frames(stores: Stores, n_clips: int, warm_target: float, cold_target: float | None) -> None:
    """Read all layers of the frames of some clips."""
    data = stores.data
    picked = np.random.default_rng(n_clips).choice(len(data.ids), n_clips, replace=False)
    numbers: Array = np.sort(picked)
    ids = [data.ids[n] for n in numbers.tolist()]
    spans = [data.span(n) for n in numbers.tolist()]

    def mapped() -> Job:
        layers = [data.mapped(layer) for layer in LAYERS]
        return lambda: [np.stack([rows[span] for rows in layers], axis=1) for span in spans]

    def reading(feature_set: FeatureSet, *, verify: bool = True) -> Prepare:
        def make() -> Job:
            own = opened(feature_set)
            return lambda: own.ragged(LAYERS, ids, verify=verify)

        return make

    paths = [data.raw_path(layer) for layer in LAYERS]
    starts, n_bytes = data.starts[numbers] * data.row_bytes, data.lengths[numbers] * data.row_bytes
    stores.both(
        f"{n_clips} clip{'s' if n_clips > 1 else ''} x {len(LAYERS)} layers of frames",
        {
            "memmap": Way(mapped),
            "store": Way(reading(stores.whole), BEFORE, warm_target, BY_RUN),
            stores.many_name: Way(reading(stores.many), BEFORE),
        },
        {
            "8-thread pread": Way(lambda: partial(pread_rows, paths, starts, n_bytes)),
            "store, not verified": Way(
                reading(stores.whole, verify=False), NOTHING, cold_target, CHUNKS
            ),
            "store": Way(reading(stores.whole), TOUCHED, cold_target, CHUNKS),
            stores.many_name: Way(reading(stores.many), TOUCHED),
            "memmap": Way(mapped),
        },
        lambda rival: rival.frames(numbers),
    )


def main() -> None:
    """Run all jobs and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--utterances", type=int, default=16384, help="clips at utterance level")
    parser.add_argument("--clips", type=int, default=128, help="clips at frame level")
    parser.add_argument("--frames", type=int, default=160, help="frames of a clip, on average")
    parser.add_argument("--width", type=int, default=1024, help="D of every layer")
    parser.add_argument("--parts", type=int, default=8, help="parts of the store that is split")
    parser.add_argument("--beside", nargs="*", choices=NAMES, default=NAMES, help="other libraries")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    bench = Bench(args.rounds)
    one_row = np.ones(args.utterances, dtype=np.int64)
    lengths = np.random.default_rng(2).integers(args.frames // 2, args.frames * 3 // 2, args.clips)
    for level, of_level in (("utterance", one_row), ("frame", lengths)):
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            data = Data(Path(folder) / level, level, of_level, args.width)
            stores = Stores(bench, data, args.parts, args.beside)
            stores.write()
            if level == "utterance":
                whole_layer(stores)
                random_rows(stores)
            else:
                frames(stores, min(N_CLIPS_PICKED, args.clips), 0.9, 0.95)
                frames(stores, 1, 0.5, None)
    bench.show()


if __name__ == "__main__":
    main()
