"""``mer-store worker``."""

import click

from mer_store.cli.threads import wait_without_spinning


@click.command()
@click.argument("address")
@click.option(
    "--device",
    default="auto",
    show_default=True,
    help="auto, cpu, cuda or cuda:1: the one device that this worker sees.",
)
@click.option(
    "--name", metavar="NAME", help="Shown in the run's progress. Default: host and process."
)
@click.option(
    "--patience",
    type=click.IntRange(min=1),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="How long to look for a scheduler that does not answer.",
)
def worker(address: str, device: str, name: str | None, patience: int) -> int:
    """Join the dask scheduler at ADDRESS and work for the runs that use it.

    One process with one thread and one device; start one for each GPU. It needs the same mer-store, and the
    same paths of store, media and models, as the machine where `extract` runs.

    \b
    Example:
      mer-store worker tcp://node1:8786
      mer-store worker tcp://node1:8786 --device cuda:1

    SIGTERM or Ctrl-C: it commits what is in hand and leaves; others do the rest.
    """
    wait_without_spinning()
    from pipelines.cluster.worker import join  # imports torch: seconds

    join(address, device, name, patience, lambda text: click.echo(text, err=True))
    return 0
