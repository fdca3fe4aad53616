"""``mer-store remote``."""

import json

import click

from mer_store.cli.settings import json_option, store_option


@click.group()
def remote() -> None:
    """Give remotes names, and try what they promise."""


@remote.command("add")
@click.argument("name")
@click.argument("url")
@store_option
def add(name: str, url: str, store: str) -> None:
    """Call URL by NAME in this store.

    \b
    Example:
      mer-store remote add lab s3://team/mer2024
    """
    from mer_store.remote.names import add_remote
    from mer_store.store.store import Store

    add_remote(Store.open(store).path, name, url)


@remote.command("remove")
@click.argument("name")
@store_option
def remove(name: str, store: str) -> None:
    """Forget NAME. What is there stays."""
    from mer_store.remote.names import remove_remote
    from mer_store.store.store import Store

    remove_remote(Store.open(store).path, name)


@remote.command("list")
@store_option
@json_option
def list_remotes(store: str, *, as_json: bool) -> None:
    """List names and URLs."""
    from mer_store.remote.address import hide_secrets
    from mer_store.remote.names import read_remotes
    from mer_store.store.store import Store

    remotes = read_remotes(Store.open(store).path)
    if as_json:
        click.echo(json.dumps(remotes, ensure_ascii=False))
        return
    for name, url in sorted(remotes.items()):
        click.echo(f"{name}\t{hide_secrets(url)}")
