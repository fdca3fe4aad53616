"""What ``push``, ``pull`` and ``clone`` have in common."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mer_store.spec import LEVELS, MODALITIES

if TYPE_CHECKING:
    from mer_store.remote.address import Address
    from mer_store.remote.plan import Plan
    from mer_store.remote.selection import Selection
    from mer_store.remote.transfer import Moved, Transfer
    from mer_store.store.store import Store

Command = TypeVar("Command", bound=Callable[..., Any])
Direction = Callable[["Transfer", "Store", "Address", "Selection"], tuple["Plan", "Moved"]]


def selection_options(command: Command) -> Command:
    """Add the options that choose a piece of a store."""
    for option in reversed(
        (
            click.option("--modality", type=click.Choice(MODALITIES), help="Only this modality."),
            click.option("--model", metavar="NAME", help="Only this model."),
            click.option("--level", type=click.Choice(LEVELS), help="Only this level."),
            click.option("--recipe", metavar="NAME", help="Only this recipe."),
            click.option(
                "--fingerprint", metavar="HEX", help="Only this spec; first digits are enough."
            ),
            click.option("--layers", metavar="LIST", help="Only these layers: 18 or 16-21."),
        )
    ):
        command = option(command)
    return command


def move(
    direction: Direction,
    verb: str,
    store: "Store",
    address: "Address",
    selection: "Selection",
    *,
    as_json: bool,
) -> int:
    """Run a transfer with a line of progress; say what was done. Return the exit code."""
    from mer_store.remote.transfer import Transfer
    from pipelines.transfer_line import TransferLine

    line = TransferLine(f"{verb} {address}")
    try:
        with Transfer(line) as transfer:
            plan, moved = direction(transfer, store, address, selection)
    except KeyboardInterrupt:
        line.close()
        click.echo(
            "stopped: what is whole is committed, the rest is kept for the next time", err=True
        )
        raise click.exceptions.Abort from None
    finally:
        line.close()
    _say(plan, moved, as_json=as_json)
    return 1 if moved.problems else 0


def _say(plan: "Plan", moved: "Moved", *, as_json: bool) -> None:
    facts = {
        "parts": moved.n_parts,
        "clips": moved.n_clips,
        "bytes": moved.n_bytes,
        "bytes_kept": moved.n_bytes_kept,
        "parts_there_already": plan.n_parts_there - len(plan.steps) - len(plan.problems),
        "problems": list(moved.problems),
        "notes": list(plan.notes),
    }
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False))
        return
    for text in (*plan.notes, *(f"error: {problem}" for problem in plan.problems)):
        click.echo(text, err=True)
    kept = (
        f", {moved.n_bytes_kept / 1e6:.1f} MB were there from before" if moved.n_bytes_kept else ""
    )
    click.echo(
        f"{moved.n_parts} parts, {moved.n_clips} clips, {moved.n_bytes / 1e6:.1f} MB moved{kept}; "
        f"{facts['parts_there_already']} parts were there already"
    )
    if moved.problems:
        click.echo(f"{len(moved.problems)} parts could not be moved; see above", err=True)


def read_clip_ids(clips: Path | None) -> frozenset[str] | None:
    """Return the clips of a clip list, None where none was given."""
    from mer_store.clips.clip_list import ClipList

    return None if clips is None else frozenset(clip.clip_id for clip in ClipList.read(clips).clips)
