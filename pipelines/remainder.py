"""What is left to do of a part: its worker died or went away, or a modality is left out."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from pipelines.work import PartWork

#: Deaths after which a part is split, or its only clip is blamed: the first may be anybody's kill.
DEATHS_TO_BLAME = 2
#: Suspects that are set apart, each as a part of its own; more than these are halved.
MAX_ALONE = 16


def rest(work: PartWork, left: Sequence[tuple[str, tuple[int, ...]]]) -> list[PartWork]:
    """Return what was left of a part: the clips that lack the same streams go together."""
    lacking: dict[tuple[int, ...], set[str]] = {}
    for clip_id, numbers in left:
        lacking.setdefault(numbers, set()).add(clip_id)
    work = replace(work, rejected={}, n_deaths=0, suspects=frozenset(), media_seen=False)
    return [
        replace(
            work,
            sources=tuple(source for source in work.sources if source.clip_id in clip_ids),
            streams=tuple(work.streams[number] for number in numbers),
        )
        for numbers, clip_ids in lacking.items()
    ]


def without(work: PartWork, names: Collection[str]) -> PartWork:
    """Return a part without the modalities of those names; one of rejected clips alone as it is."""
    if not work.sources:
        return work
    streams = tuple(stream for stream in work.streams if stream.request.stream_name not in names)
    return replace(work, streams=streams)


def split(
    work: PartWork, n_deaths: int = 1, in_hand: frozenset[str] | None = None
) -> list[PartWork]:
    """Say what to do with a part of which `n_deaths` workers died.

    Once: try it whole again. Twice: set apart the clips that were in hand both times; where that is unknown,
    halve its clips. A single clip of which two died while it was alone is tried a modality at a time; of a
    single modality it is rejected. Once is not enough: workers are also killed by others, at random.

    Parameters
    ----------
    work
        The part.
    n_deaths
        Workers that died of it just now.
    in_hand
        The clips the worker had in hand, None where it left no note.
    """
    known = in_hand is not None and len(work.sources) > 1
    suspected = in_hand or frozenset()
    if n_deaths < DEATHS_TO_BLAME:
        suspected &= work.suspects
    enough = bool(suspected) if known else work.n_deaths + n_deaths >= DEATHS_TO_BLAME
    if not enough:
        again = replace(work, n_deaths=work.n_deaths + n_deaths)
        return [replace(again, suspects=in_hand or frozenset())]
    suspects = [source for source in work.sources if source.clip_id in suspected]
    others = tuple(source for source in work.sources if source.clip_id not in suspected)
    # Of some of its clips it is not known whether their media were seen.
    work = replace(work, n_deaths=0, suspects=frozenset(), media_seen=False)
    if known and others and len(suspects) <= MAX_ALONE:
        alone = [replace(work, sources=(one,), rejected={}) for one in suspects]
        return [replace(work, sources=others), *alone]
    if len(work.sources) > 1:
        middle = len(work.sources) // 2
        return [
            replace(work, sources=work.sources[:middle]),
            replace(work, sources=work.sources[middle:], rejected={}),
        ]
    if len(work.streams) > 1:
        return [replace(work, streams=(stream,)) for stream in work.streams]
    reason = "its worker died on this clip twice (crashed decoder, out of memory, or killed)"
    killers = {source.clip_id: reason for source in work.sources}
    return [replace(work, sources=(), rejected={**work.rejected, **killers})]
