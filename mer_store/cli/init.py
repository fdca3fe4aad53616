"""``mer-store init``."""

import click


@click.command()
@click.argument("store", default="store", envvar="MER_STORE_STORE", metavar="[STORE]")
def init(store: str) -> None:
    """Create an empty store. One that exists is left as it is.

    \b
    Example:
      mer-store init /data/mer2024-store
    """
    from mer_store.store.store import Store

    created = Store.create(store)
    click.echo(f"store ready: {created.path}", err=True)
