"""Which stage held a run up, and what to change."""

from dataclasses import dataclass, field

from pipelines.work import Tally

ADVICE = {
    "reading and decoding": "more --decoders where cores are free, or media on a faster disk",
    "the model": "a GPU, or more of them: --workers, --scheduler or --cluster slurm",
    "writing": "the store on a faster disk, fewer layers, or larger --part-clips",
}
#: What modalities do in each stage.
DOING = dict(zip(ADVICE, Tally().by_stage, strict=True))
READING = "reading"


@dataclass(frozen=True)
class Bottleneck:
    """Where the workers' time went."""

    stage: str
    share: float
    """Of the time the workers spent on parts."""
    shares: dict[str, float]
    modality: str | None = None
    """Of several, the one that took most of that stage; None where reading the files did."""
    by_modality: dict[str, float] = field(default_factory=dict)
    """The stage's share, split: each modality's and ``reading``, the largest first."""

    @property
    def text(self) -> str:
        """Say it, and what to change."""
        others = ", ".join(
            f"{stage} {share:.0%}" for stage, share in self.shares.items() if stage != self.stage
        )
        split = ", ".join(
            f"{name if name == READING else f'{DOING[self.stage]} {name}'} {share:.0%}"
            for name, share in self.by_modality.items()
            if round(share, 2)
        )
        split = f": {split}" if split else ""
        return (
            f"bottleneck: {self.stage}, {self.share:.0%} of the workers' time{split} ({others}); "
            f"faster with {ADVICE[self.stage]}"
        )


def find_bottleneck(tally: Tally) -> Bottleneck | None:
    """Return the stage that took most of the time; None where nothing took any."""
    times_s = dict(zip(ADVICE, tally.by_stage.values(), strict=True))
    whole_s = sum(times_s.values())
    if not tally.n_ok or whole_s <= 0:
        return None
    shares = {stage: time_s / whole_s for stage, time_s in times_s.items()}
    stage = max(shares, key=lambda name: shares[name])
    parts = tally.parts_of(DOING[stage])
    by_modality = {name or READING: part * shares[stage] for name, part in parts.items()}
    return Bottleneck(stage, shares[stage], shares, next(iter(parts), None) or None, by_modality)
