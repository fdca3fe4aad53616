"""``mer-store push``."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from mer_store.cli.settings import json_option, store_option
from mer_store.cli.transfers import move, selection_options


@click.command()
@click.argument("remote")
@selection_options
@click.option(
    "--no-ids",
    is_flag=True,
    help="Push keyed hashes of clip ids, for data whose licence forbids names.",
)
@click.option(
    "--id-key",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The key of the hashes; id-key in the store, made at the first use.",
)
@click.option(
    "--again", is_flag=True, help="Send also parts that are there, over what may be damaged."
)
@store_option
@json_option
def push(
    remote: str,
    id_key: Path | None,
    store: str,
    *,
    no_ids: bool,
    again: bool,
    as_json: bool,
    **chosen: Any,
) -> int:
    """Bring to REMOTE what this store has and it lacks. REMOTE is a name, a folder or a URL.

    Only features and their records move: no media, labels or transcripts, they are not in a store. What is
    there is never overwritten; any number of members may push at once. Stop it with Ctrl-C; the same
    command goes on where it stopped. With --no-ids, members who have the key read what was pushed by a clip
    list that `mer-store clips hash` makes of theirs.

    \b
    Example:
      mer-store push s3://team/mer2024
      mer-store push /mnt/usb/mer2024 --modality audio
      mer-store push s3://public/mer2024 --no-ids
    """
    from mer_store.clips.hashed_ids import KEY_FILE, IdKey
    from mer_store.remote.names import resolve
    from mer_store.remote.selection import Selection
    from mer_store.remote.transfer import Transfer
    from mer_store.store.store import Store

    opened = Store.open(store)
    address = resolve(opened.path, remote)
    selection = Selection(**chosen)
    key = IdKey.make(id_key or opened.path / KEY_FILE) if no_ids or id_key else None
    return move(
        partial(Transfer.push, key=key, again=again),
        "push",
        opened,
        address,
        selection,
        as_json=as_json,
    )
