"""``mer-store table2``."""

import json
from pathlib import Path

import click

from mer_store.cli.settings import any_store_option, clips_option, json_option, runs_option


@click.command()
@click.option("--no-train", is_flag=True, help="Show what is trained already, train nothing.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="TASK.KEY=VALUE",
    help="One setting of a task, over its bundled configs: adapter.model=DIR. May be repeated.",
)
@click.option(
    "-o", "--output", metavar="CSV", type=click.Path(path_type=Path),
    help="The table as CSV.  [default: table2.csv beside the runs]",
)  # fmt: skip
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1.")
@runs_option
@any_store_option
@clips_option
@json_option
def table2(
    store: str,
    clips: Path,
    runs: Path,
    *,
    no_train: bool,
    assignments: tuple[str, ...],
    output: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Print the paper's Table 2 beside ours; train what is missing and can be trained.

    Markdown on stdout, the same as CSV. Rows whose features are absent say which command makes them.

    \b
    Example:
      mer-store table2 --set adapter.model=/models/chinese-hubert-large --set fusion.repeats=6
    """
    from mer_store.clips.clip_list import ClipList
    from mer_store.opening import open_store
    from pipelines.report.run_page import write_run_page
    from pipelines.report.table2 import Table2, overrides_of, values_of
    from pipelines.report.table2_text import as_markdown, write_csv

    maker = Table2(
        open_store(store),
        ClipList.read(clips),
        runs,
        device=device,
        overrides=overrides_of(assignments),
        trains=not no_train,
    )
    rows = maker.fill()
    for run in [*(row.run for row in rows), maker.alignment]:
        if run is not None:
            write_run_page(run)
    write_csv(rows, output or runs.parent / "table2.csv")
    if as_json:
        click.echo(json.dumps([values_of(row) for row in rows], ensure_ascii=False))
    else:
        click.echo(as_markdown(rows), nl=False)
