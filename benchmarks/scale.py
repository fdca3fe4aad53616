"""The engine, the store and dask over a corpus of MER2024's size, with a fake device of a set speed.

python benchmarks/scale.py                  everything, kills at a small size: a quarter of an hour
python benchmarks/scale.py wall             115,595 clips, one process, a device as fast as an H100 could be
python benchmarks/scale.py planner          1,000,000 clips, half of them stored
python benchmarks/scale.py --full kills     115,595 clips, 500 workers killed on the way: half an hour
python benchmarks/scale.py --full strong    12,800 clips by 1, 2, 4, 8 and 16 workers
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from scale_device import N_CLIPS
from scale_kills import killed
from scale_planner import planner
from scale_runs import Setup, look, run
from scale_stages import stages_alone
from scale_strong import strong
from target import at_most

#: Seconds of audio in a second: 100.6 h of them are 34 s of HuBERT-large on an H100 at 40 % of its speed.
H100_RATE = 10_650.0
SMALL = {"wall": N_CLIPS, "kills": 6_000, "planner": 1_000_000, "strong": 6_400}
FULL = {"wall": N_CLIPS, "kills": N_CLIPS, "planner": 1_000_000, "strong": 12_800}


def wall(folder: Path, options: argparse.Namespace) -> None:
    """One process: as fast as its slowest stage alone, and no larger at the end than half way."""
    setup = Setup(folder, options.clips, options.rate or H100_RATE, options.width)
    ran = run(setup)
    found = look(setup)
    alone = stages_alone(setup, n_decoders=1)
    slowest = max(alone, key=lambda stage: alone[stage])
    tally = ran.report.tally
    print(
        f"  {setup.n_clips:,} clips, {tally.media_s / 3600:.1f} h: {ran.wall_s:.1f} s "
        f"({setup.n_clips / ran.wall_s:.0f} clips/s); alone: "
        + ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in alone.items())
    )
    print(
        f"  waiting {tally.waiting_s:.1f} s, computing {tally.computing_s:.1f} s, "
        f"writing {tally.writing_s:.1f} s; planned in {ran.planning_s:.1f} s"
    )
    why = "between batches threads wait for the interpreter's lock and for a core"
    at_most(
        f"wall time / slowest stage alone ({slowest}), {setup.n_clips:,} clips",
        ran.wall_s / alone[slowest],
        1.15,
        why=why,
    )
    at_most("most memory at 100 % / at 50 %", ran.memory.peak() / ran.memory.peak(0.5), 1.1)
    at_most("clips lost", found.n_lost, 0)
    at_most("clips of a sample with wrong features", found.n_wrong, 0)


PIECES: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    "wall": wall, "kills": killed, "planner": planner, "strong": strong,
}  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pieces", nargs="*", metavar="PIECE", help=f"of {', '.join(PIECES)}")
    parser.add_argument("--clips", type=int, help="instead of each piece's own size")
    parser.add_argument("--full", action="store_true", help="the sizes of the targets")
    parser.add_argument("--rate", type=float, help="audio seconds in a second on each device")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=4, help="of kills")
    parser.add_argument("--kills", type=int, help="the default is 500 for 115,595 clips")
    parser.add_argument("--part-clips", type=int, help="of kills; the default repeats under 2 %%")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="of strong")
    parser.add_argument("--folder", type=Path, help="where to work; the default is temporary")
    options = parser.parse_args()
    if unknown := set(options.pieces) - PIECES.keys():
        parser.error(f"{', '.join(sorted(unknown))}: expected {', '.join(PIECES)}")
    n_clips = options.clips
    for piece in options.pieces or PIECES:
        print(f"{piece}:", flush=True)
        options.clips = n_clips or (FULL if options.full else SMALL)[piece]
        with tempfile.TemporaryDirectory(dir=options.folder, prefix="scale-") as name:
            PIECES[piece](Path(name), options)


if __name__ == "__main__":
    main()
