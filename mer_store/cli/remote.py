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

    known = read_remotes(Store.open(store).path)
    remotes = {name: hide_secrets(url) for name, url in known.items()}
    if as_json:
        click.echo(json.dumps(remotes, ensure_ascii=False))
        return
    for name, url in sorted(remotes.items()):
        click.echo(f"{name}\t{url}")


@remote.command("doctor")
@click.argument("remote", metavar="NAME_OR_URL")
@store_option
@json_option
def doctor(remote: str, store: str, *, as_json: bool) -> int:
    """Try what a remote promises, and say what is safe there. Exit 0: safe, 1: not.

    Tried in a folder of its own below the remote, removed afterwards: writing, listing, pieces of objects, a
    write that breaks off, two writers at once, conditional writes. Nothing that is there is touched. About
    75 MB are sent to a bucket.

    \b
    Example:
      mer-store remote doctor s3://team/mer2024
      mer-store remote doctor /mnt/share/mer2024 --json
    """
    from pathlib import Path

    from mer_store.remote.doctor import examine
    from mer_store.remote.names import resolve

    found = examine(resolve(Path(store), remote))
    if as_json:
        click.echo(json.dumps(found.to_values(), ensure_ascii=False))
        return 0 if found.is_safe else 1
    for trial in found.trials:
        mark = "ok" if trial.kept else ("NOT KEPT" if trial.needed else "no")
        click.echo(f"{mark:8}  {trial.promise}: {trial.words}")
    click.echo(f"{found.remote}: {found.verdict}")
    for line in found.advice:
        click.echo(f"  {line}")
    return 0 if found.is_safe else 1
