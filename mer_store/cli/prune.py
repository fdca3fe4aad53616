"""``mer-store prune``."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from mer_store.cli.settings import json_option, store_option
from mer_store.cli.status import bytes_in_words
from mer_store.errors import shown

if TYPE_CHECKING:
    from mer_store.store.prune import Pruned
    from mer_store.store.store import Store


@click.command()
@click.option("--yes", is_flag=True, help="Do it. Default: only say what would be done.")
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="MINUTES",
    help="Delete bytes so long after no reader sees them any more: readers at work may need them.",
)
@click.option("--quarantine", is_flag=True, help="Delete what repair moved away, too.")
@store_option
@json_option
def prune(store: str, *, yes: bool, older_than: float, quarantine: bool, as_json: bool) -> int:
    """Remove parts that no reader needs: superseded by others, or made from media that changed since.

    What can be read stays the same. A part is withdrawn first: nobody who opens the store sees it.
    Its bytes are deleted when the command is run again --older-than minutes later.

    \b
    Example:
      mer-store prune
      mer-store prune --yes

    Exit 1 where something belongs to another user, who can prune it.
    """
    from mer_store.store.store import Store

    return run_prune(Store.open(store), older_than, yes=yes, quarantine=quarantine, as_json=as_json)


def run_prune(
    store: "Store", older_than: float, *, yes: bool, quarantine: bool, as_json: bool
) -> int:
    """Prune, say what was done, return the exit code."""
    from mer_store.store.prune import prune as prune_store

    if yes:
        store.sweep()
    pruned = prune_store(store, yes=yes, older_than_s=older_than * 60, quarantine=quarantine)
    n_freed = sum(item.n_bytes for item in pruned if item.freed)
    n_later = sum(item.n_bytes for item in pruned if not (item.freed or item.refused))
    if as_json:
        items = [asdict(item) for item in pruned]
        facts = {"bytes_freed": n_freed, "bytes_to_free": n_later, "pruned": items}
        click.echo(json.dumps(facts, ensure_ascii=False))
    else:
        _print(pruned, yes=yes)
        click.echo(_summary(pruned, n_freed, n_later, yes=yes), err=True)
    return 1 if any(item.refused for item in pruned) else 0


def _print(pruned: "Sequence[Pruned]", *, yes: bool) -> None:
    for item in pruned:
        if item.refused:
            done = f"left: {item.refused}"
        elif item.freed:
            done = "deleted"
        elif item.wait_s:
            done = f"no longer seen; to be deleted in {item.wait_s / 60:.0f} minutes"
        else:
            done = "to be deleted" if yes else "can go"
        name = f"{item.feature_set}: " if item.feature_set else ""
        size = bytes_in_words(item.n_bytes)
        click.echo(shown(f"{name}{item.part_id}: {item.why}, {size}: {done}"))


def _summary(pruned: "Sequence[Pruned]", n_freed: int, n_later: int, *, yes: bool) -> str:
    if not pruned:
        return "nothing to prune"
    later = f"{bytes_in_words(n_later)} can be freed"
    if not yes:
        return f"{later}: run again with --yes"
    wait = max((item.wait_s for item in pruned), default=0.0)
    when = f"; {later} in {wait / 60:.0f} minutes: run again then" if n_later else ""
    return f"{bytes_in_words(n_freed)} freed{when}"
