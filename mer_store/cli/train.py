"""``mer-store train``."""

from pathlib import Path

import click

from mer_store.cli.settings import any_store_option, clips_option, runs_option

TASKS = ("probe", "adapter", "align", "fusion")


@click.command()
@click.argument("task", type=click.Choice(TASKS))
@click.option(
    "--config",
    metavar="TOML",
    help="A file of settings, or the name of one that comes along: hl18.",
)
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="One setting; may be repeated."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1.")
@runs_option
@any_store_option
@clips_option
def train(
    task: str,
    config: str | None,
    assignments: tuple[str, ...],
    runs: Path,
    device: str,
    store: str,
    clips: Path,
) -> None:
    """Train from cached features; print the run's folder.

    \b
      probe    a classifier on pooled features of some layers
      adapter  adapters in HuBERT's upper blocks, from cached frames of the layer below them
      align    visual features into the acoustic space, on unlabelled clips
      fusion   attention over the modalities a clip has

    \b
    Example:
      mer-store train probe --config hl18
      mer-store train fusion --set modalities=audio,visual --set repeats=6

    Ctrl-C stops after the epoch in hand; the same command goes on there. A training whose settings and
    features are unchanged is not repeated.
    """
    from mer_store.clips.clip_list import ClipList
    from mer_store.opening import open_store
    from pipelines.report.run_page import write_run_page
    from pipelines.train.settings import read_settings
    from pipelines.train.trainers import Job, trainer_of

    trainer = trainer_of(task)
    settings = read_settings(trainer.Settings, config, assignments)
    job = Job(open_store(store), ClipList.read(clips), settings, runs, device)
    run = trainer.train(job)
    write_run_page(run)
    click.echo(run.path)
