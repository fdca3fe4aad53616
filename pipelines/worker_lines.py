"""What is said of a worker: its pace, and what its time goes on."""

from collections.abc import Iterable, Mapping
from statistics import fmean

from pipelines.pace import Pace

SECONDS_PER_HOUR = 3600.0


def worker_line(name: str, pace: Pace, names: Iterable[str] = ()) -> str:
    """Return the line of one worker, aligned with those of `names`."""
    width = max((len(other) for other in names), default=0)
    words = [f" {name:<{width}}", f"{pace.clips_per_s:.1f} clips/s"]
    if pace.media_per_s:
        words.append(media_hours(pace.media_per_s))
    return "  ".join([*words, worker_words(pace)])


def worker_words(pace: Pace) -> str:
    """Say what a worker's time goes on; what is missing from 100 % is spent without work."""
    shares = {"waits": pace.waiting, "computes": pace.computing, "writes": pace.writing}
    most = max(shares, key=lambda verb: shares[verb])
    binds = f" ({pace.modality} {pace.modality_share:.0%})" if pace.modality else ""
    return ", ".join(
        f"{verb} {share:.0%}{binds if verb == most else ''}" for verb, share in shares.items()
    )


def of_all(workers: Mapping[str, Pace], more: str = "") -> str:
    """Return one line for many workers: the slowest, the fastest, and shares of their time."""
    rates = [pace.clips_per_s for pace in workers.values()]
    mean = Pace(
        waiting=fmean(pace.waiting for pace in workers.values()),
        computing=fmean(pace.computing for pace in workers.values()),
        writing=fmean(pace.writing for pace in workers.values()),
    )
    return f" {len(rates)} {more}workers  {min(rates):.1f}-{max(rates):.1f} clips/s  {worker_words(mean)}"


def media_hours(media_per_s: float) -> str:
    """Return a rate in hours of media per second."""
    return f"{media_per_s / SECONDS_PER_HOUR:.4f} media h/s"
