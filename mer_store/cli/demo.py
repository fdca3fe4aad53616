"""``mer-store demo``."""

from pathlib import Path

import click


@click.command()
@click.argument("folder", default="demo", type=click.Path(file_okay=False, path_type=Path))
@click.option("--offline", is_flag=True, help="Generate the clips instead of fetching real ones.")
def demo(folder: Path, *, offline: bool) -> None:
    """Run the main job end to end on a small corpus: real clips to a store to a page that shows it.

    Models are tiny and untrained; faces are found by a real detector.

    \b
    Example:
      mer-store demo demo
    """
    from pipelines.demo.tour import tour

    tour(folder, offline=offline)
