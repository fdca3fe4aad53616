"""``mer-store pull``."""

from pathlib import Path
from typing import Any

import click

from mer_store.cli.settings import Explicit, json_option, store_option
from mer_store.cli.transfers import move, read_clip_ids, selection_options


@click.command()
@click.argument("remote")
@selection_options
@click.option(
    "--clips",
    cls=Explicit,
    metavar="CSV",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Only the clips of this list. Not taken from mer-store.toml.",
)
@store_option
@json_option
def pull(
    remote: str,
    clips: Path | None,
    store: str,
    *,
    as_json: bool,
    **chosen: Any,
) -> int:
    """Bring here what REMOTE has and this store lacks. REMOTE is a name, a folder or a URL.

    Every byte is hashed while it comes and checked against its part's record; a part is visible only when
    all of it is here. Stop it with Ctrl-C; the same command goes on where it stopped. Nothing that is here is
    changed: stores that grew apart become their union.

    \b
    Example:
      mer-store pull s3://team/mer2024
      mer-store pull lab --modality audio --layers 18
      mer-store pull lab --clips labelled.csv
    """
    from mer_store.remote.names import resolve
    from mer_store.remote.selection import Selection
    from mer_store.remote.transfer import Transfer
    from mer_store.store.store import Store

    opened = Store.create(store)
    selection = Selection(**chosen, clip_ids=read_clip_ids(clips))
    address = resolve(opened.path, remote)
    return move(Transfer.pull, "pull", opened, address, selection, as_json=as_json)
