"""``mer-store verify``."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from mer_store.cli.settings import json_option, store_option
from mer_store.errors import shown
from mer_store.layers import describe_layers

if TYPE_CHECKING:
    from mer_store.store.finding import Finding
    from mer_store.store.store import Store

N_NAMED = 5


@click.command()
@click.option(
    "--deep",
    is_flag=True,
    help="Also look at every value: finite, and each clip's rows as their checksum says.",
)
@store_option
@json_option
def verify(store: str, *, deep: bool, as_json: bool) -> int:
    """Check every part: structure, sizes, digests, offsets. Exit 1 where something is wrong.

    Every file is read once; the clips and layers that are hit are named.

    \b
    Example:
      mer-store verify --deep
      mer-store verify --json | jq -r '.findings[].clip_ids[]'

    `mer-store repair` moves what is broken out of the way.
    """
    from mer_store.store.store import Store

    opened = Store.open(store)
    findings, n_parts, n_bytes = checked(opened, deep=deep)
    if as_json:
        facts = {"parts": n_parts, "bytes": n_bytes, "findings": [asdict(f) for f in findings]}
        click.echo(json.dumps(facts, ensure_ascii=False, default=str))
    else:
        for finding in findings:
            click.echo(in_words(finding))
        click.echo(f"{n_parts} parts checked, {len(findings)} findings", err=True)
    return 1 if findings else 0


def checked(store: "Store", *, deep: bool) -> tuple[list["Finding"], int, int]:
    """Verify a store with a line of progress; return what is wrong, parts and bytes looked at."""
    from mer_store.store.verify import verify as verify_store
    from pipelines.parts_line import PartsLine

    line = PartsLine(f"verify {store.path}")
    try:
        findings = verify_store(store, deep=deep, watch=line)
    finally:
        line.close()
    return findings, line.n_done, line.n_bytes_done


def in_words(finding: "Finding") -> str:
    """Describe a finding in a line, naming the first clips and the layers that are hit."""
    hit = []
    if finding.layers:
        hit.append(f"layers {describe_layers(finding.layers)}")
    if finding.clip_ids:
        hit.append(f"clips {named(finding.clip_ids)}")
    return shown(f"{finding}" + (f"; hit: {', '.join(hit)}" if hit else ""))


def named(clip_ids: Sequence[str]) -> str:
    """Name the first few clips and count the others."""
    more = f" and {len(clip_ids) - N_NAMED} more" if len(clip_ids) > N_NAMED else ""
    return ", ".join(clip_ids[:N_NAMED]) + more
