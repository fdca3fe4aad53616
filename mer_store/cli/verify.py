"""``mer-store verify``."""

import json
from dataclasses import asdict

import click

from mer_store.cli.settings import json_option, store_option


@click.command()
@click.option(
    "--deep", is_flag=True, help="Also read every value: checksums of each chunk, finite numbers."
)
@store_option
@json_option
def verify(store: str, *, deep: bool, as_json: bool) -> int:
    """Check every part: structure, sizes, digests, offsets. Exit 1 where something is wrong.

    \b
    Example:
      mer-store verify --deep
    """
    from mer_store.store.store import Store
    from mer_store.store.verify import verify as verify_store

    opened = Store.open(store)
    findings = verify_store(opened, deep=deep)
    n_parts = sum(len(feature_set.part_ids()) for feature_set in opened.feature_sets())
    if as_json:
        click.echo(
            json.dumps(
                {"parts": n_parts, "findings": [asdict(finding) for finding in findings]},
                default=str,
            )
        )
    else:
        for finding in findings:
            click.echo(str(finding))
        click.echo(f"{n_parts} parts checked, {len(findings)} findings", err=True)
    return 1 if findings else 0
