"""``mer-store export``: features in the layouts of other programs."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from mer_store.cli.settings import clips_option, store_option
from mer_store.spec import LEVELS, MODALITIES

if TYPE_CHECKING:
    from mer_store.clips.clip_list import ClipList

#: Each a function (store, clip list or None, to, options) -> exit code.
FORMATS = {
    "mertools": "pipelines.exchange.mertools_export:export_mertools",
    "hdf5": "pipelines.exchange.hdf5:export_hdf5",
    "mmsa": "pipelines.exchange.mmsa:export_mmsa",
    "parquet": "pipelines.exchange.parquet:export_parquet",
}


@click.command()
@click.option("--format", "format_", required=True, type=click.Choice(list(FORMATS)))
@click.option(
    "--to", required=True, metavar="PATH", type=click.Path(path_type=Path),
    help="Folder or file to write.",
)  # fmt: skip
@click.option("--modality", type=click.Choice(MODALITIES), help="Default: all that the store has.")
@click.option("--level", type=click.Choice(LEVELS), help="Default: utterance.")
@click.option("--model", metavar="NAME", help="Of the feature set, where several would fit.")
@click.option("--recipe", metavar="NAME", help="Of the feature set, where several would fit.")
@click.option("--fingerprint", metavar="HEX", help="Of the feature set: its first digits do.")
@click.option(
    "--layers", metavar="LIST",
    help="18, 16-21 or embed. Default: what the format is known for.",
)  # fmt: skip
@click.option(
    "--policy", type=click.Choice(["error", "skip", "zeros"]), default="error", show_default=True,
    help="Clips without a face or speech: refuse to start, leave them out, or write zeros.",
)  # fmt: skip
@click.option("--name", metavar="NAME", help="Of the features' folder or file, not the model's.")
@click.option("--split", metavar="NAME", help="Only clips of this split of the clip list.")
@store_option
@clips_option
@click.pass_context
def export(
    context: click.Context,
    /,
    store: str,
    clips: Path,
    *,
    format_: str,
    to: Path,
    split: str | None,
    **options: Any,
) -> int:
    """Write features in the layout of another program.

    mertools: features/NAME-UTT/CLIP.npy, label-6way.npz and transcription-merge.csv as MERTools reads them.

    \b
    Example:
      mer-store export --format mertools --to mer2024-dataset-process --policy zeros
      mer-store export --format hdf5 --to audio.h5 --modality audio --layers 16-21

    A file that is there already is never changed. The same command goes on where it stopped.
    """
    from mer_store.store.store import Store
    from pipelines.exchange.options import ExportOptions

    source = context.get_parameter_source("clips")
    clip_list = listed_clips(clips, needed=source is not ParameterSource.DEFAULT or bool(split))
    if clip_list is not None and split:
        clip_list = _of_split(clip_list, split)
    if options["model"]:  # the spec has the last piece of a hub name or folder
        options["model"] = Path(options["model"]).name
    module, _, function = FORMATS[format_].partition(":")
    run = getattr(import_module(module), function)
    code: int = run(Store.open(store), clip_list, to, ExportOptions(**options))
    return code


def listed_clips(path: Path, *, needed: bool) -> "ClipList | None":
    """Read the clip list; None where there is none and nobody asked for it."""
    from mer_store.clips.clip_list import ClipList

    if not needed and not path.is_file():
        return None
    clip_list = ClipList.read(path)
    for problem in clip_list.problems:
        click.echo(f"{path}:{problem.line}: {problem.clip_id}: {problem.reason}", err=True)
    return clip_list


def _of_split(clip_list: "ClipList", split: str) -> "ClipList":
    from dataclasses import replace

    from mer_store.errors import UsageError

    clips = tuple(clip for clip in clip_list.clips if clip.split == split)
    if not clips:
        there = sorted({clip.split for clip in clip_list.clips if clip.split})
        raise UsageError(
            f"--split {split}: no clip of {clip_list.path} is of it; there are {', '.join(there) or 'none'}"
        )
    return replace(clip_list, clips=clips)
