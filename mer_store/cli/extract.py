"""``mer-store extract``."""

from pathlib import Path
from typing import Any

import click

from mer_store.cli.extract_report import announce, print_dry_run, summarise
from mer_store.cli.extract_settings import extract_settings
from mer_store.cli.modalities import ModalityList
from mer_store.cli.settings import clips_option, json_option, store_option
from mer_store.cli.threads import wait_without_spinning


@click.command()
@click.option(
    "--modality",
    "modalities",
    required=True,
    type=ModalityList(),
    metavar="LIST",
    help="audio, visual, text, or several with commas between: media are then read once.",
)
@click.option(
    "--layers",
    metavar="LIST",
    help="16-21, 18,20, last4, all or embed. Default: audio 16-21, visual embed, text last4. "
    "With several modalities: audio=16-21,text=last4; so --frame-layers, --model, --recipe.",
)
@click.option(
    "--level",
    type=click.Choice(["utterance", "frame", "both"]),
    default="utterance",
    show_default=True,
    help="One row a clip, one row a frame, or both in one pass.",
)
@click.option("--frame-layers", metavar="LIST", help="Store these at frame level in the same pass.")
@click.option(
    "--model", metavar="NAME_OR_DIR", help="Hub name, local folder, or tiny (random weights)."
)
@click.option(
    "--recipe",
    default="default",
    show_default=True,
    metavar="NAME",
    help="default, mertools2024 or mertools2023.",
)
@click.option(
    "--faces",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="Visual: centerface, pyfeat, openface, or crops that are stored.",
)
@click.option(
    "--images-per-second",
    type=float,
    metavar="N",
    help="Visual: sample the video. Default: every image.",
)
@click.option(
    "--detect-every",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Visual: detect faces in every N-th image, follow them between.",
)
@click.option(
    "--store-crops",
    type=click.Choice(["jpeg", "uint8"]),
    help="Visual: keep the face crops, too: with --faces crops another model needs no video.",
)
@click.option(
    "--adapter",
    metavar="RUN",
    help="Audio: run the upper blocks with trained adapters, from cached states where there are any.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1.")
@click.option(
    "--compute-dtype",
    default="auto",
    show_default=True,
    metavar="DTYPE",
    help="auto is float32 on a CPU, bfloat16 on a GPU.",
)
@click.option(
    "--stored-dtype",
    type=click.Choice(["float16", "float32"]),
    default="float16",
    show_default=True,
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Worker processes here, one a GPU; with --cluster, jobs. Default: this process.",
)
@click.option(
    "--scheduler", metavar="ADDRESS", help="A running dask scheduler, such as tcp://node1:8786."
)
@click.option(
    "--cluster",
    type=click.Choice(["slurm"]),
    help="Submit the workers as jobs. Needs mer-store[slurm].",
)
@click.option(
    "--config",
    metavar="TOML",
    envvar="MER_STORE_CLUSTER_CONFIG",  # MER_STORE_CONFIG is that of `train`
    type=click.Path(path_type=Path),
    help="What is asked of the cluster: queue, account, cores, memory, walltime, gpus, ...",
)
@click.option(
    "--decoders",
    type=click.IntRange(min=1),
    metavar="N",
    help="Decoding threads beside each model.",
)
@click.option(
    "--part-clips",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
    metavar="N",
    help="Clips to a part: the unit of commit.",
)
@click.option(
    "--progress",
    type=click.Choice(["auto", "json", "none"]),
    default="auto",
    show_default=True,
    help="Lines on stderr: for people, as JSON objects, or none.",
)
@click.option("--dashboard", is_flag=True, help="Serve dask's dashboard; needs bokeh.")
@click.option("--retry-failed", is_flag=True, help="Try clips again that failed before.")
@click.option("--dry-run", is_flag=True, help="Say what would be done: clips, parts, bytes.")
@store_option
@clips_option
@json_option
@click.pass_context
def extract(
    context: click.Context,
    /,
    store: str,
    clips: Path,
    *,
    as_json: bool,
    dry_run: bool,
    **options: Any,
) -> int:
    """Extract what is missing: clips and layers that the store does not have yet.

    \b
    Example:
      mer-store extract --modality audio --layers 16-21
      mer-store extract --modality audio --layers all --frame-layers 15 --workers 2
      mer-store extract --modality audio,visual,text --layers audio=16-21,text=last4
      mer-store extract --modality audio --cluster slurm --config slurm.toml --workers 8
      mer-store extract --modality audio --adapter runs/adapter-0a1b2c3d4e

    Ctrl-C commits what is done; the same command goes on where it stopped.
    """
    from mer_store.cli.main import EXIT_INTERRUPTED
    from mer_store.clips.clip_list import ClipList
    from mer_store.store.store import Store

    wait_without_spinning()
    clip_list = ClipList.read(clips)
    for problem in clip_list.problems:
        click.echo(
            f"{clips}:{problem.line}: {problem.clip_id or '(no clip id)'}: {problem.reason}",
            err=True,
        )
    click.echo(
        f"{', '.join(options['modalities'])}: {len(clip_list.clips)} clips listed in {clips}; "
        "looking at the model, the media and the store",
        err=True,
    )
    from pipelines.extract import prepare  # imports torch: seconds

    extraction = prepare(Store.create(store), clip_list, extract_settings(context, options))
    announce(extraction)
    if dry_run:
        print_dry_run(extraction, as_json=as_json)
        return 0
    extraction.store.sweep()
    report = extraction.run()
    summarise(extraction, report, as_json=as_json)
    if report.stopped:
        return EXIT_INTERRUPTED
    failed = report.tally.n_failed or extraction.plan.n_failed_before or report.left_out
    return (
        1 if failed or clip_list.problems else 0
    )  # rows without a usable clip id have no ledger row
