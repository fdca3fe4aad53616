"""``mer-store demo``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mer_store.store.store import Store

LAYER = 18


@click.command()
@click.argument("folder", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option("--offline", is_flag=True, help="Generate the clips instead of fetching real ones.")
@click.option(
    "--planted",
    is_flag=True,
    help="Make a store of a known signal to train on: no media, no models.",
)
def demo(folder: Path | None, *, offline: bool, planted: bool) -> None:
    """Run the main job end to end on a small corpus: real clips, a store, a page that shows it.

    Models are tiny and untrained, so that it takes a minute; faces are found by a real detector. Every
    step is a command that is printed before it runs. Run it again: what is stored is not extracted again.

    --planted makes a store whose best reachable score is known, for trying the trainers out.

    \b
    Example:
      mer-store demo demo
      mer-store demo --planted planted
    """
    if planted:
        plant(folder or Path("planted"))
        return
    folder = folder or Path("demo")
    from mer_store.clips.clip_list import ClipList
    from mer_store.store.store import Store
    from pipelines.demo.corpus import make_corpus
    from pipelines.demo.page import write_page

    clips = make_corpus(folder / "clips", offline=offline)
    where = ["--store", str(folder / "store")]
    listed = ["--clips", str(clips), "--model", "tiny", "--decoders", "2"]
    run("init", str(folder / "store"))
    extract = ["extract", *where, *listed, "--modality"]
    run(*extract, "audio", "--layers", "16-21", "--frame-layers", f"15,{LAYER}")
    run(*extract, "visual", "--level", "both", "--images-per-second", "5")
    run(*extract, "text")
    run("status", *where, "--clips", str(clips))
    run("verify", "--deep", *where)
    store = Store.open(folder / "store")
    read_back(store)
    runs = ["--runs", str(folder / "runs")]
    run("train", "fusion", *where, "--clips", str(clips), *runs)
    run("report", *where, "--clips", str(clips), *runs)
    page = folder / "index.html"
    write_page(store, ClipList.read(clips), LAYER, page)
    click.secho(f"\nopen {page} in a browser to look at it all", bold=True)


def run(*arguments: str) -> None:
    """Print a command, then run it in this process. Clips that fail are part of the demo."""
    from mer_store.cli.main import cli

    click.secho(f"\n$ mer-store {' '.join(arguments)}", bold=True)
    cli.main(list(arguments), prog_name="mer-store", standalone_mode=False)


def read_back(store: "Store") -> None:
    """Read one layer of every clip, as a trainer does."""
    import time

    features = store.features("audio", level="utterance")
    started_s = time.perf_counter()
    rows = features.read(layers=[LAYER])
    elapsed_ms = 1e3 * (time.perf_counter() - started_s)
    click.secho(
        f"\n>>> store.features('audio', level='utterance').read(layers=[{LAYER}])", bold=True
    )
    click.echo(
        f"array of {rows.dtype} {rows.shape}: [clips, layers, D], read in {elapsed_ms:.1f} ms"
    )


def plant(folder: Path) -> None:
    """Make a planted store, say what can be reached on it, and how to try."""
    from pipelines.planted.write import ORACLE, make_planted

    made = make_planted(folder)
    split, oracle = made.corpus.split, made.corpus.oracle()
    click.echo(
        f"{folder}: {split.count('labelled'):,} labelled clips, {split.count('unlabelled'):,} "
        f"unlabelled, {split.count('test')} test; features of no media, a known signal in noise\n"
        f"best weighted F1 (%) that can be reached on the labelled clips ({made.folder / ORACLE}):",
        err=True,
    )
    width = max(map(len, oracle))
    for what, score in oracle.items():
        click.echo(f"  {what:{width}}  {100 * score:.1f}", err=True)
    where = f"--store {made.store} --clips {made.clips} --runs {folder / 'runs'}"
    click.echo("try:", err=True)
    for command in (
        "train probe --config layer-sweep",
        "train probe --config hl18",
        "train fusion --set modalities=audio,visual,text",
        "table2",
    ):
        click.echo(f"  mer-store {command} {where}", err=True)
    click.echo(made.store)
