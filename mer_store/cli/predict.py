"""``mer-store predict``."""

from pathlib import Path
from typing import Any

import click

from mer_store.cli.settings import any_store_option, clips_option


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", metavar="CSV", type=click.Path(path_type=Path),
    help="Where the predictions go.  [default: RUN/predictions.csv]",
)  # fmt: skip
@click.option(
    "--submission", metavar="CSV", type=click.Path(path_type=Path),
    help="Also write name,discrete as the challenge asks for.",
)  # fmt: skip
@click.option(
    "--candidates", metavar="CSV", type=click.Path(path_type=Path),
    help="The names to submit, in their order. Default: split test, else all without a label.",
)  # fmt: skip
@click.option(
    "--as-clips", metavar="CSV", type=click.Path(path_type=Path),
    help="Also write a clip list of pseudo-labels: unlabelled clips predicted with confidence.",
)  # fmt: skip
@click.option(
    "--min-confidence", type=click.FloatRange(0, 1), default=0.9, show_default=True, metavar="P",
    help="Least probability of a pseudo-label.",
)  # fmt: skip
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1.")
@any_store_option
@clips_option
def predict(
    run: Path,
    store: str,
    clips: Path,
    *,
    device: str,
    output: Path | None,
    submission: Path | None,
    **wanted: Any,
) -> None:
    """Predict every clip that has features; print the file's path.

    Clips the run was scored on get the prediction of models that were not trained on them.

    \b
    Example:
      mer-store predict runs/fusion-a+v+t-0a1b2c3d4e --submission out.csv --candidates list.csv
      mer-store predict runs/fusion-a+v+t-0a1b2c3d4e --as-clips pseudo.csv --min-confidence 0.9
      mer-store train fusion --set pseudo=pseudo.csv
    """
    from mer_store.clips.clip_list import ClipList
    from mer_store.opening import open_store
    from pipelines.train.predictions import FILE
    from pipelines.train.run_folder import RunFolder
    from pipelines.train.submission import pseudo_labelled, write_submission
    from pipelines.train.trainers import trainer_of

    candidates, as_clips = wanted["candidates"], wanted["as_clips"]
    if candidates and not submission:
        raise click.UsageError("--candidates goes with --submission")
    opened, clip_list = RunFolder.open(run), ClipList.read(clips)
    predictions = trainer_of(opened.task).predict(opened, open_store(store), clip_list, device)
    target = output or run / FILE
    predictions.write(target)
    click.echo(f"{len(predictions.clip_ids)} of {len(clip_list.clips)} clips predicted", err=True)
    if submission:
        n_rows, left_out = write_submission(predictions, clip_list, submission, candidates)
        for name in left_out:
            click.echo(f"{name}: not submitted: it has no features to predict from", err=True)
        click.echo(f"{submission}: {n_rows} rows to submit", err=True)
    if as_clips:
        chosen = pseudo_labelled(predictions, clip_list, wanted["min_confidence"])
        chosen.write(as_clips)
        click.echo(f"{as_clips}: {len(chosen.clips)} pseudo-labels", err=True)
    click.echo(target)
