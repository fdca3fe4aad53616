"""``mer-store compact``."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from mer_store.cli.prune import run_prune
from mer_store.cli.settings import json_option, store_option
from mer_store.cli.status import bytes_in_words
from mer_store.errors import UsageError, shown

if TYPE_CHECKING:
    from mer_store.store.compact import Compacted


@click.command()
@click.option(
    "--part-clips",
    type=click.IntRange(min=2),
    metavar="N",
    help="Clips of a new part. Default: 16,384 at utterance level, 1,024 at frame level.",
)
@click.option("--prune", is_flag=True, help="Then prune: mer-store prune --yes.")
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
@store_option
@json_option
def compact(
    store: str, *, part_clips: int | None, prune: bool, dry_run: bool, as_json: bool
) -> int:
    """Copy the features of many small parts into few large ones, which are faster to read and share.

    What can be read stays the same, bit for bit. Others may read and write the store meanwhile.
    The small parts stay until `mer-store prune` removes them. Exit 1 where something is damaged.

    \b
    Example:
      mer-store compact --dry-run
      mer-store compact --prune

    Ctrl-C leaves what is committed; the same command goes on.
    """
    from mer_store.store.compact import compact as compact_store
    from mer_store.store.store import Store
    from pipelines.parts_line import PartsLine

    if prune and dry_run:
        raise UsageError("--dry-run and --prune: expected one of them; see `mer-store prune`")
    opened = Store.open(store)
    if not dry_run:
        opened.sweep()
    line = PartsLine(f"compact {opened.path}")
    try:
        made = compact_store(opened, part_clips=part_clips, dry_run=dry_run, watch=line)
    finally:
        line.close()
    if as_json and not prune:
        click.echo(json.dumps({"parts": [asdict(part) for part in made]}, ensure_ascii=False))
    elif not as_json:
        _print(made, dry_run=dry_run)
    code = 1 if any(part.problem for part in made) else 0
    if prune:
        return max(code, run_prune(opened, 60.0, yes=True, quarantine=False, as_json=as_json))
    return code


def _print(made: "Sequence[Compacted]", *, dry_run: bool) -> None:
    verb = "would copy" if dry_run else "copied"
    for part in made:
        size = bytes_in_words(part.n_bytes)
        words = f"{verb} {part.n_clips} clips of {part.n_parts} parts, {size}, into {part.part_id}"
        if part.problem:
            words = f"left {part.n_parts} parts as they are: {part.problem}"
        click.echo(shown(f"{part.feature_set}: {words}"))
    if not made:
        click.echo("nothing to compact", err=True)
