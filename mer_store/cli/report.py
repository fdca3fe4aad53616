"""``mer-store report``."""

from pathlib import Path

import click

from mer_store.cli.settings import any_store_option, clips_option, runs_option


@click.command()
@click.option(
    "-o", "--output", metavar="HTML", type=click.Path(path_type=Path),
    help="The page.  [default: report.html beside the runs]",
)  # fmt: skip
@runs_option
@any_store_option
@clips_option
def report(output: Path | None, runs: Path, store: str, clips: Path) -> None:
    """Write one page for the store and all its runs; print its path.

    Coverage by feature set, failures by reason, the runs with their scores, and the paper's Table 2 as it
    stands. Nothing is trained.

    \b
    Example:
      mer-store report -o report.html
    """
    from mer_store.clips.clip_list import ClipList
    from mer_store.opening import open_store
    from pipelines.report.readable import readable_runs
    from pipelines.report.store_page import write_store_page
    from pipelines.report.table2 import Table2

    opened = open_store(store)
    clip_list = ClipList.read(clips) if clips.is_file() else None
    rows = Table2(opened, clip_list or ClipList(()), runs, trains=False).fill()
    sound, problems = readable_runs(runs)
    for problem in problems:
        click.echo(f"left out: {problem}", err=True)
    target = output or runs.parent / "report.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    click.echo(write_store_page(opened, clip_list, sound, rows, target))
