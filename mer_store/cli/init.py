"""``mer-store init``."""

import click


@click.command()
@click.argument("store", default="store", envvar="MER_STORE_STORE", metavar="[STORE]")
@click.option(
    "--group",
    metavar="NAME",
    help="Share it: members of this group add parts, nobody changes or deletes another's.",
)
def init(store: str, group: str | None) -> None:
    """Create an empty store. One that exists is left as it is.

    \b
    Example:
      mer-store init /data/mer2024-store
      mer-store init --group emotion /nfs/mer2024-store
    """
    from mer_store.store.store import Store

    created = Store.create(store, group)
    click.echo(f"store ready: {created.path}", err=True)
