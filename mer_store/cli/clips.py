"""``mer-store clips``: making and checking clip lists."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from mer_store.clips.clip_list import ClipList

N_SHOWN = 20

output_option = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default="clips.csv",
    show_default=True,
    metavar="CSV",
)
folder_argument = click.argument(
    "folder", type=click.Path(exists=True, file_okay=False, path_type=Path)
)


@click.group()
def clips() -> None:
    """Make a clip list, or check one."""


@clips.command()
@folder_argument
@output_option
def mer2024(folder: Path, output: Path) -> None:
    """List the MER2024 clips as the organisers hand them out.

    FOLDER holds video-labeled/, video-unlabeled-with-test2noise/, label-disdim.csv and
    label-transcription.csv.

    \b
    Example:
      mer-store clips mer2024 /data/mer2024-dataset -o clips.csv
    """
    from mer_store.clips.mer2024 import from_mer2024

    _write(from_mer2024, folder, output)


@clips.command()
@folder_argument
@output_option
def mertools(folder: Path, output: Path) -> None:
    """List the clips of a dataset that MERTools has processed.

    \b
    Example:
      mer-store clips mertools /data/mer2024-dataset-process -o clips.csv
    """
    from mer_store.clips.mertools import from_mertools

    _write(from_mertools, folder, output)


@clips.command(name="folder")
@folder_argument
@output_option
def folder_(folder: Path, output: Path) -> None:
    """List the clips of any folder: one clip a media file, its transcript in a .txt beside it.

    \b
    Example:
      mer-store clips folder my-recordings -o clips.csv
    """
    from mer_store.clips.folder import from_folder

    _write(from_folder, folder, output)


@clips.command()
@click.argument("csv", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def check(csv: Path) -> int:
    """Check a clip list: bad rows, duplicate ids, missing files. Exit 1 where there is any.

    \b
    Example:
      mer-store clips check clips.csv
    """
    from mer_store.clips.clip_list import ClipList

    clip_list = ClipList.read(csv)
    lines = [
        f"{csv}:{problem.line}: {problem.clip_id}: {problem.reason}"
        for problem in clip_list.problems
    ]
    lines += [
        f"{csv}: {clip.clip_id}: file not found: {clip.path}" for clip in clip_list.missing_files()
    ]
    for line in lines:
        click.echo(line)
    click.echo(f"{len(clip_list.clips)} clips, {len(lines)} problems", err=True)
    return 1 if lines else 0


@clips.command(name="hash")
@click.argument("csv", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--id-key",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The key that the store was pushed with.",
)
@output_option
def hash_(csv: Path, id_key: Path, output: Path) -> None:
    """Replace names by keyed hashes, as `mer-store push --no-ids` does; paths and texts are dropped.

    Labels, splits and folds stay: the list trains from a store that was pushed without names.

    \b
    Example:
      mer-store clips hash clips.csv --id-key id-key -o hashed.csv
    """
    from dataclasses import replace

    from mer_store.clips.clip_list import ClipList
    from mer_store.clips.hashed_ids import IdKey

    key, clip_list = IdKey.read(id_key), ClipList.read(csv)
    hashed = [
        replace(clip, clip_id=key.hash_id(clip.clip_id), path=None, text=None)
        for clip in clip_list.clips
    ]
    replace(clip_list, clips=tuple(hashed)).write(output)
    click.echo(f"{len(hashed)} clips listed in {output}", err=True)


def _write(importer: "Callable[[Path], ClipList]", folder: Path, output: Path) -> None:
    clip_list = importer(folder)
    for note in clip_list.notes[:N_SHOWN]:
        click.echo(note, err=True)
    if len(clip_list.notes) > N_SHOWN:
        click.echo(f"... and {len(clip_list.notes) - N_SHOWN} more notes", err=True)
    clip_list.write(output)
    click.echo(f"{len(clip_list.clips)} clips listed in {output}", err=True)
