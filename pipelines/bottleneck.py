"""Which stage held a run up, and what to change."""

from dataclasses import dataclass

from pipelines.work import Tally

ADVICE = {
    "reading and decoding": "more --decoders where cores are free, or media on a faster disk",
    "the model": "a GPU, or more of them: --workers, --scheduler or --cluster slurm",
    "writing": "the store on a faster disk, fewer layers, or larger --part-clips",
}


@dataclass(frozen=True)
class Bottleneck:
    """Where the workers' time went."""

    stage: str
    share: float
    """Of the time the workers spent on parts."""
    shares: dict[str, float]

    @property
    def text(self) -> str:
        """Say it, and what to change."""
        others = ", ".join(
            f"{stage} {share:.0%}" for stage, share in self.shares.items() if stage != self.stage
        )
        return (
            f"bottleneck: {self.stage}, {self.share:.0%} of the workers' time ({others}); "
            f"faster with {ADVICE[self.stage]}"
        )


def find_bottleneck(tally: Tally) -> Bottleneck | None:
    """Return the stage that took most of the time; None where nothing took any.

    The model waits for input: that wait is the time of reading and decoding that was not hidden behind it.
    """
    times_s = dict(zip(ADVICE, (tally.waiting_s, tally.computing_s, tally.writing_s), strict=True))
    whole_s = sum(times_s.values())
    if not tally.n_ok or whole_s <= 0:
        return None
    shares = {stage: time_s / whole_s for stage, time_s in times_s.items()}
    stage = max(shares, key=lambda name: shares[name])
    return Bottleneck(stage, shares[stage], shares)
