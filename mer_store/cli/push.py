"""``mer-store push``."""

import click

from mer_store.cli.settings import json_option, store_option
from mer_store.cli.transfers import move, selection_options


@click.command()
@click.argument("remote")
@selection_options
@store_option
@json_option
def push(
    remote: str,
    store: str,
    *,
    as_json: bool,
    **chosen: str | None,
) -> int:
    """Bring to REMOTE what this store has and it lacks. REMOTE is a name, a folder or a URL.

    Only features and their records move: no media, labels or transcripts, they are not in a store. What is
    there is never overwritten; any number of members may push at once. Stop it with Ctrl-C; the same
    command goes on where it stopped.

    \b
    Example:
      mer-store push s3://team/mer2024
      mer-store push /mnt/usb/mer2024 --modality audio
    """
    from mer_store.remote.names import resolve
    from mer_store.remote.selection import Selection
    from mer_store.remote.transfer import Transfer
    from mer_store.store.store import Store

    opened = Store.open(store)
    address = resolve(opened.path, remote)
    selection = Selection(**chosen)
    return move(Transfer.push, "push", opened, address, selection, as_json=as_json)
