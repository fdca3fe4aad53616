"""``mer-store serve``."""

import getpass
import socket

import click

from mer_store.cli.settings import store_option


@click.command()
@click.option(
    "--port",
    default=8765,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="0 takes a free one.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@store_option
def serve(port: int, host: str, store: str) -> None:
    """Show the store over HTTP, read only, until Ctrl-C; print the address.

    For members without a bucket: they pull from the address, and a page there says how. Only what
    is committed is shown. There is no password and no encryption, so it listens to this machine
    alone unless told otherwise; others reach it through ssh.

    \b
    Example:
      mer-store serve
      mer-store serve --port 9000
    """
    from mer_store.store.store import Store
    from pipelines.serve.address import is_loopback
    from pipelines.serve.app import serve as serve_store

    def started(url: str) -> None:
        click.echo(url)
        click.echo(_how_to_reach(url, is_private=is_loopback(host)), err=True)

    tally = serve_store(Store.open(store), host, port, started)
    click.echo(str(tally), err=True)


def _how_to_reach(url: str, *, is_private: bool) -> str:
    host, _, port = url.removeprefix("http://").rpartition(":")
    here = host if is_private else "127.0.0.1"
    tunnel = (
        f"  ssh -N -L {port}:{here}:{port} {_user()}@{socket.gethostname()}\n"
        f"  mer-store pull http://127.0.0.1:{port}"
    )
    if is_private:
        return f"From another machine, in two terminals:\n{tunnel}\nCtrl-C stops."
    return (
        f"warning: {url} is open to the network: no authentication, no encryption. "
        f"Whoever reaches port {port} reads every feature. Safer: leave --host out here, and on the "
        f"other machine, in two terminals:\n{tunnel}\nCtrl-C stops."
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "USER"
