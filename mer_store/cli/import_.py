"""``mer-store import``: features that other programs made."""

from importlib import import_module
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from mer_store.cli.export import listed_clips
from mer_store.cli.settings import clips_option, store_option
from mer_store.spec import LEVELS, MODALITIES, STORED_DTYPES

#: Each a function (source, store, clip list or None, options) -> exit code.
FORMATS = {
    "mertools": "pipelines.exchange.mertools_import:import_mertools",
    "hdf5": "pipelines.exchange.hdf5:import_hdf5",
}


@click.command(name="import")
@click.option("--format", "format_", required=True, type=click.Choice(list(FORMATS)))
@click.option(
    "--from", "source", required=True, metavar="PATH", type=click.Path(exists=True, path_type=Path),
    help="Folder or file to read.",
)  # fmt: skip
@click.option("--modality", type=click.Choice(MODALITIES), help="What the features are of.")
@click.option("--name", metavar="FOLDER", help="mertools: folder of the features in features/.")
@click.option("--level", type=click.Choice(LEVELS), help="Default: as the name or file says.")
@click.option("--model", metavar="NAME", help="Default: as the name or file says.")
@click.option("--recipe", metavar="NAME", help="How they were computed. mertools: mertools2024.")
@click.option("--layers", metavar="LIST", help="Which; or the one layer's name where no file says.")
@click.option(
    "--stored-dtype", type=click.Choice(STORED_DTYPES),
    help="Default: the narrower one that holds every value exactly, else float32.",
)  # fmt: skip
@click.option(
    "--part-clips", type=click.IntRange(min=1), default=1024, show_default=True, metavar="N",
    help="Clips to a part: the unit of commit.",
)  # fmt: skip
@store_option
@clips_option
@click.pass_context
def import_(
    context: click.Context,
    /,
    store: str,
    clips: Path,
    *,
    format_: str,
    source: Path,
    **options: Any,
) -> int:
    """Read features that another program made into a feature set of their own.

    Only clips of the clip list are taken, where there is one. Nothing in a file is ever run.

    \b
    Example:
      mer-store import --format mertools --from mer2024-dataset-process \\
        --modality audio --name chinese-hubert-large-UTT

    What is in the store already and unchanged is not read again.
    """
    from mer_store.store.store import Store
    from pipelines.exchange.options import ImportOptions

    given = context.get_parameter_source("clips") is not ParameterSource.DEFAULT
    clip_list = listed_clips(clips, needed=given)
    module, _, function = FORMATS[format_].partition(":")
    run = getattr(import_module(module), function)
    code: int = run(source, Store.create(store), clip_list, ImportOptions(**options))
    return code
