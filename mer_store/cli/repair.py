"""``mer-store repair``."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from mer_store.cli.settings import json_option, store_option
from mer_store.cli.verify import checked, named
from mer_store.errors import shown
from mer_store.layers import describe_layers

if TYPE_CHECKING:
    from mer_store.store.repair import Lost, Moved
    from mer_store.store.store import Store


@click.command()
@click.option("--deep", is_flag=True, help="Look at every value, as verify --deep does.")
@click.option("--dry-run", is_flag=True, help="Say what would be moved.")
@click.option(
    "--from",
    "remote",
    metavar="REMOTE",
    help="Pull what was lost from there: a name, folder or URL.",
)
@store_option
@json_option
def repair(store: str, remote: str | None, *, deep: bool, dry_run: bool, as_json: bool) -> int:
    """Move what is broken into quarantine/, so that the next extract or pull makes it again.

    Nothing is deleted. Clips and layers that are to be made again are named, with the command for it.

    \b
    Example:
      mer-store repair --dry-run
      mer-store repair
      mer-store repair --from lab

    Exit 1 where something could not be moved. Stopped at any point, the same command finishes.
    """
    from mer_store.store.repair import lost
    from mer_store.store.repair import repair as repair_store
    from mer_store.store.second_look import look_again
    from mer_store.store.store import Store

    opened = Store.open(store)
    findings, _, _ = checked(opened, deep=deep)
    looked = look_again(opened, findings, deep=deep)
    for finding in looked.sound:
        click.echo(f"{finding}; sound at a second look: left", err=True)
    moved = repair_store(opened, looked.findings, dry_run=dry_run)
    left = [item.feature_set for item in moved if item.scope == "feature set" and not item.to]
    missing = [] if dry_run or left else lost(opened, moved)
    if remote and missing:
        _pull(opened, remote, missing)
        missing = lost(Store.open(store), moved)
    if as_json:
        facts = {"moved": [asdict(m) for m in moved], "missing": [asdict(m) for m in missing]}
        click.echo(json.dumps(facts, ensure_ascii=False))
    else:
        for item in moved:
            click.echo(_in_words(item, dry_run=dry_run))
        _say_how(missing)
        if not moved:
            click.echo("nothing to repair", err=True)
    return 1 if any(item.refused for item in moved) else 0


def _pull(opened: "Store", remote: str, missing: "Sequence[Lost]") -> None:
    """Pull the clips and layers that were lost; what the remote does not have stays missing."""
    from mer_store.errors import UsageError
    from mer_store.remote.names import resolve
    from mer_store.remote.selection import Selection
    from mer_store.remote.transfer import Transfer
    from pipelines.transfer_line import TransferLine

    address = resolve(opened.path, remote)
    for item in missing:
        line = TransferLine(f"pull {address}")
        chosen = Selection(
            modality=item.modality,
            fingerprint=item.feature_set.rpartition("-")[2],
            layers=",".join(map(str, item.layers)),
            clip_ids=frozenset(item.clip_ids),
        )
        try:
            with Transfer(line) as transfer:
                transfer.pull(opened, address, chosen)
        except UsageError as error:
            click.echo(f"{item.feature_set}: {error}", err=True)
        finally:
            line.close()


def _in_words(item: "Moved", *, dry_run: bool) -> str:
    more = f" and {len(item.paths) - 1} more" if len(item.paths) > 1 else ""
    what = f"{item.feature_set}: " if item.feature_set else ""
    what += f"part {item.part_id}: " if item.part_id else ""
    what += f"{item.paths[0]}: {item.problems[0]}{more}"
    if item.refused:
        done = f"left: {item.refused}"
    elif dry_run:
        done = "would be moved"
    elif item.recovered:
        done = f"its record is in {item.to}, a new one was made from the part, which is whole"
    else:
        done = f"moved to {item.to}"
    if item.scope == "feature set" and item.to:
        done += (
            "; its parts may be whole: put the spec.json of another copy of this feature set into it "
            "and move the folder back"
        )
    return shown(f"{what}; {done}")


def _say_how(missing: "Sequence[Lost]") -> None:
    for item in missing:
        layers = describe_layers(item.layers)
        listed = layers.replace(" ", "")
        recipe = "" if item.recipe == "default" else f" --recipe {item.recipe}"
        options = f"--modality {item.modality} --level {item.level} --layers {listed}{recipe}"
        click.echo(
            shown(
                f"{item.feature_set}: to be made again: layers {layers} of {len(item.clip_ids)} clips: "
                f"{named(item.clip_ids)}\n  mer-store pull REMOTE {options}\n  mer-store extract {options}"
            )
        )
