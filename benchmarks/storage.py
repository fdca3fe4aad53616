"""How near to the disk's own limit the store writes and reads, beside plain files and other libraries.

Every number is a ratio to the limit, which is timed just before, so that whatever else the machine does hits
both; the table shows medians. 1.0 is the limit, 0.5 takes twice as long. Warm: all is in memory and was read
once, so that no checksum is left to verify. Cold: the files were opened anew, nothing of them is in memory.

    python benchmarks/storage.py                       a few minutes
    python benchmarks/storage.py --utterances 115595 --clips 1024 --rounds 5
"""

import argparse
import tempfile
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from storage_data import LAYERS, Array, Data, opened, pread_rows
from storage_rivals import NAMES
from storage_rounds import Bench, Job, Prepare, Way, in_turn
from storage_stores import Picks, Stores, picked

from mer_store.store.feature_set import FeatureSet

LAYER = 18
N_ROWS = 1024
N_CLIPS_PICKED = 16
EACH_TIME = "crc32c of every chunk, each time"
BEFORE = "crc32c of the clips or chunks touched, before the first time"
TOUCHED = "crc32c of the clips or chunks touched"
NOTHING = "sizes, the index of the shard"
#: What is known of a miss.
IN_PIECES = "nine tenths are the copy, around the checksums that stand between chunks"
OPENING = "nine tenths are the read calls, around the checksums that stand between chunks"
BY_NAME = "finding the clips by name takes longer than copying their rows"
BY_CALL = (
    "beside the copy a call takes 0.1 ms, to find clips and to ask whether they are in memory, and 5 us a "
    "clip and layer"
)
NUMPY_ALONE = "numpy's indexing alone is timed, of memory against a mapped file"
CHUNKS = "small spans of many files are asked for one by one"


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
        lambda rival, _: rival.layer(LAYER),
    )


def random_rows(stores: Stores) -> None:
    """Read one layer of some clips, in no order."""
    data = stores.data
    n_rows = min(N_ROWS, len(data.ids))
    picks = picked(len(data.ids), n_rows)
    cold_pick = picks[:1]
    starts, n_bytes = picks[0] * data.row_bytes, np.full(n_rows, data.row_bytes)

    def mapped(asked: Picks) -> Prepare:
        def make() -> Job:
            rows = data.mapped(LAYER)
            return in_turn([partial(rows.__getitem__, numbers) for numbers in asked])

        return make

    def held() -> Job:
        rows = stores.whole.read([LAYER], data.ids)[:, 0]
        return in_turn([partial(rows.__getitem__, numbers) for numbers in picks])

    def reading(feature_set: FeatureSet, asked: Picks, *, verify: bool = True) -> Prepare:
        def make() -> Job:
            read = partial(opened(feature_set).read, [LAYER], verify=verify)
            return in_turn([partial(read, data.named(numbers)) for numbers in asked])

        return make

    stores.both(
        f"{n_rows} random rows",
        {
            "memmap": Way(mapped(picks)),
            "store": Way(reading(stores.whole, picks), BEFORE, 0.5, BY_NAME),
            stores.many_name: Way(reading(stores.many, picks), BEFORE),
            "store, held in memory": Way(held, BEFORE, 0.9, NUMPY_ALONE),
        },
        {
            "8-thread pread": Way(
                lambda: partial(pread_rows, [data.raw_path(LAYER)], starts, n_bytes)
            ),
            "store, not verified": Way(
                reading(stores.whole, cold_pick, verify=False), NOTHING, 1.0
            ),
            "store": Way(reading(stores.whole, cold_pick), TOUCHED, 1.0),
            stores.many_name: Way(reading(stores.many, cold_pick), TOUCHED),
            "memmap": Way(mapped(cold_pick)),
        },
        lambda rival, asked: in_turn([rival.rows(LAYER, numbers) for numbers in asked]),
        picks,
    )


def frames(stores: Stores, n_clips: int, warm_target: float, cold_target: float | None) -> None:
    """Read all layers of the frames of some clips."""
    data = stores.data
    picks = [np.sort(numbers) for numbers in picked(len(data.ids), n_clips)]
    cold_pick, numbers = picks[:1], picks[0]

    def stacked(layers: Sequence[Array], spans: Sequence[slice]) -> list[Array]:
        return [np.stack([rows[span] for rows in layers], axis=1) for span in spans]

    def mapped(asked: Picks) -> Prepare:
        def make() -> Job:
            read = partial(stacked, [data.mapped(layer) for layer in LAYERS])
            return in_turn([partial(read, list(map(data.span, pick.tolist()))) for pick in asked])

        return make

    def reading(feature_set: FeatureSet, asked: Picks, *, verify: bool = True) -> Prepare:
        def make() -> Job:
            read = partial(opened(feature_set).ragged, LAYERS, verify=verify)
            return in_turn([partial(read, data.named(pick)) for pick in asked])

        return make

    paths = [data.raw_path(layer) for layer in LAYERS]
    starts, n_bytes = data.starts[numbers] * data.row_bytes, data.lengths[numbers] * data.row_bytes
    stores.both(
        f"{n_clips} clip{'s' if n_clips > 1 else ''} x {len(LAYERS)} layers of frames",
        {
            "memmap": Way(mapped(picks)),
            "store": Way(reading(stores.whole, picks), BEFORE, warm_target, BY_CALL),
            stores.many_name: Way(reading(stores.many, picks), BEFORE),
        },
        {
            "8-thread pread": Way(lambda: partial(pread_rows, paths, starts, n_bytes)),
            "store, not verified": Way(
                reading(stores.whole, cold_pick, verify=False), NOTHING, cold_target, CHUNKS
            ),
            "store": Way(reading(stores.whole, cold_pick), TOUCHED, cold_target, CHUNKS),
            stores.many_name: Way(reading(stores.many, cold_pick), TOUCHED),
            "memmap": Way(mapped(cold_pick)),
        },
        lambda rival, asked: in_turn([rival.frames(pick) for pick in asked]),
        picks,
    )


def main() -> None:
    """Run all jobs and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    # A layer of 41 MB, as one of 237, is read into fresh memory; of up to 32 MB malloc hands out memory used
    # before to some and not to others.
    parser.add_argument("--utterances", type=int, default=20_000, help="clips at utterance level")
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
