"""Strong scaling: the same clips by ever more workers, each with a device of the same speed."""

import argparse
from pathlib import Path

from scale_device import Pass
from scale_runs import Ran, Setup, look, run
from target import at_least, at_most

from pipelines.machine import n_cpus

#: 19 clips a second each: sixteen leave two cores free for most of the time.
RATE = 60.0
PARTS_EACH = 12


def strong(folder: Path, options: argparse.Namespace) -> None:
    """Compare speeds, from when every worker is up to the last commit."""
    part_clips = max(1, options.clips // (max(options.steps) * PARTS_EACH))
    print(f"  {options.clips:,} clips in parts of {part_clips}")
    rate, first = options.rate or RATE, 0.0
    for n_workers in options.steps:
        setup = Setup(
            folder / str(n_workers), options.clips, rate, options.width, n_workers, part_clips
        )
        ran = run(setup)
        speed, up_after_s = speed_of(ran)
        first = first or speed / n_workers
        print(
            f"  {n_workers} workers: {ran.wall_s:.1f} s, all at work after {up_after_s:.1f} s; "
            f"devices busy {speed / rate / n_workers:.1%} of the time from then on"
        )
        found = look(setup)
        why = (
            f"{n_workers} processes prepare and commit {found.n_parts / ran.wall_s:.0f} parts a second on "
            f"{n_cpus()} cores, and nobody helps with the last part of another"
        )
        at_least(f"{n_workers} workers: speed / linear", speed / (n_workers * first), 0.9, why=why)
        at_most("clips lost or stored twice", found.n_lost + found.n_twice, 0)


def speed_of(ran: Ran) -> tuple[float, float]:
    """Return audio seconds in a second while all workers are at work, to the last commit; and when they were.

    What workers that came up early did before the last one did is not counted, nor its time.
    """
    devices = ran.passes.values()
    up_s = max(passes[0].begun_s for passes in devices)
    over_s = max(
        path.stat().st_mtime for path in ran.setup.folder.glob("store/features/*/*/commits/*")
    )
    media_s = sum(_after(one, up_s) for passes in devices for one in passes)
    begun_s = min(passes[0].begun_s for passes in devices)
    return media_s / (over_s - up_s), up_s - begun_s


def _after(one: Pass, since_s: float) -> float:
    """Return the audio seconds of a batch that were dealt with after that time."""
    assert one.ended_s
    share = (one.ended_s - max(since_s, one.begun_s)) / (one.ended_s - one.begun_s)
    return one.media_s * max(share, 0.0)
