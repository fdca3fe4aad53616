"""``mer-store clone``."""

from pathlib import Path
from typing import Any

import click

from mer_store.cli.settings import json_option
from mer_store.cli.transfers import move, selection_options


@click.command()
@click.argument("remote")
@click.argument("folder", type=click.Path(path_type=Path))
@selection_options
@json_option
def clone(
    remote: str,
    folder: Path,
    *,
    as_json: bool,
    **chosen: Any,
) -> int:
    """Make a store in FOLDER that holds what REMOTE has, and knows it as `origin`.

    \b
    Example:
      mer-store clone s3://team/mer2024 store
      mer-store clone https://example.org/mer2024 store --modality audio --layers 18
    """
    from mer_store.errors import UsageError
    from mer_store.remote.names import add_remote, read_remotes, resolve
    from mer_store.remote.selection import Selection
    from mer_store.remote.side import open_side
    from mer_store.remote.transfer import Transfer
    from mer_store.store.store import Store

    address = resolve(None, remote)
    open_side(address)  # before anything is made here
    opened = Store.create(folder)
    known = read_remotes(opened.path).get("origin")
    if known is None:
        add_remote(opened.path, "origin", remote)
    elif resolve(opened.path, "origin") != address:
        raise UsageError(
            f"{folder}: a clone of another remote; use `mer-store pull {address}` there"
        )
    selection = Selection(**chosen)
    return move(Transfer.pull, "clone", opened, address, selection, as_json=as_json)
