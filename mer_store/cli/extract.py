"""``mer-store extract``."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mer_store.cli.settings import clips_option, json_option, modality_defaults, store_option
from mer_store.cli.status import bytes_in_words
from mer_store.cli.threads import wait_without_spinning
from mer_store.errors import UsageError
from mer_store.layers import describe_layers

if TYPE_CHECKING:
    from pipelines.extract import Extraction, ExtractSettings
    from pipelines.run import RunReport
    from pipelines.workers import Workers


@click.command()
@click.option("--modality", required=True, type=click.Choice(["audio", "visual", "text"]))
@click.option(
    "--layers",
    metavar="LIST",
    help="16-21, 18,20, last4, all or embed. Default: audio 16-21, visual embed, text last4.",
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
    help="Visual: centerface, pyfeat or openface.",
)
@click.option(
    "--images-per-second",
    type=float,
    metavar="N",
    help="Visual: sample the video. Default: every image.",
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
      mer-store extract --modality audio --cluster slurm --config slurm.toml --workers 8
      mer-store extract --modality audio --adapter runs/adapter-0a1b2c3d4e

    Ctrl-C commits what is done; the same command goes on where it stopped.
    """
    from mer_store.cli.main import EXIT_INTERRUPTED
    from mer_store.clips.clip_list import ClipList
    from mer_store.store.store import Store

    wait_without_spinning()
    defaults = modality_defaults(context, options["modality"])
    if options["adapter"]:  # these speak of the base model's features
        defaults = {
            k: v for k, v in defaults.items() if k not in ("layers", "frame_layers", "recipe")
        }
    options |= defaults
    clip_list = ClipList.read(clips)
    for problem in clip_list.problems:
        click.echo(
            f"{clips}:{problem.line}: {problem.clip_id or '(no clip id)'}: {problem.reason}",
            err=True,
        )
    click.echo(
        f"{options['modality']}: {len(clip_list.clips)} clips listed in {clips}; "
        "looking at the model, the media and the store",
        err=True,
    )
    from pipelines.extract import prepare  # imports torch: seconds

    extraction = prepare(Store.create(store), clip_list, _settings(options))
    _announce(extraction)
    if dry_run:
        _print_dry_run(extraction, as_json=as_json)
        return 0
    extraction.store.sweep()
    report = extraction.run()
    _summarise(extraction, report, as_json=as_json)
    if report.stopped:
        return EXIT_INTERRUPTED
    failed = report.tally.n_failed or extraction.plan.n_failed_before
    return (
        1 if failed or clip_list.problems else 0
    )  # rows without a usable clip id have no ledger row


def _settings(options: dict[str, Any]) -> "ExtractSettings":
    from extractors.contract import ExtractorRequest
    from pipelines.extract import ExtractSettings

    workers = _workers(options)
    decoders = {"n_decoders": options["decoders"]} if options["decoders"] else {}
    return ExtractSettings(
        request=ExtractorRequest(
            modality=options["modality"],
            model=options["model"],
            recipe=options["recipe"],
            device=options["device"],
            compute_dtype=options["compute_dtype"],
            faces=options["faces"],
            images_per_second=options["images_per_second"],
            adapter=str(Path(options["adapter"]).absolute()) if options["adapter"] else None,
        ),
        layers=options["layers"],
        level=options["level"],
        frame_layers=options["frame_layers"],
        stored_dtype=options["stored_dtype"],
        part_clips=options["part_clips"],
        workers=workers,
        progress=options["progress"],
        retry_failed=options["retry_failed"],
        **decoders,
    )


def _workers(options: dict[str, Any]) -> "Workers":
    from pipelines.slurm import read_slurm_options
    from pipelines.workers import Workers

    if options["cluster"] and options["scheduler"]:
        raise UsageError("--cluster submits workers, --scheduler uses those there are: give one")
    if options["config"] and not options["cluster"]:
        raise UsageError("--config says what is asked of a cluster: give --cluster slurm with it")
    return Workers(
        number=options["workers"],
        scheduler=options["scheduler"],
        slurm=read_slurm_options(options["config"]) if options["cluster"] else None,
        device=options["device"],
        dashboard=options["dashboard"],
    )


def _announce(extraction: "Extraction") -> None:
    plan = extraction.plan
    for spec, layers in extraction.wanted:
        untrained = "" if spec.trained else "  UNTRAINED (random weights)"
        click.echo(
            f"{spec.modality}/{spec.name}  layers {describe_layers(layers)}{untrained}", err=True
        )
    facts = {
        "stored": plan.n_stored, "stale": plan.n_stale,
        "failed before": plan.n_failed_before, "empty before": plan.n_empty_before,
    }  # fmt: skip
    words = "".join(f", {number} {name}" for name, number in facts.items() if number)
    click.echo(
        f"{plan.n_clips} clips{words}: {plan.n_to_do} to do in {len(plan.parts)} parts", err=True
    )
    if plan.n_failed_before:
        click.echo("clips that failed before are tried again with --retry-failed", err=True)


def _print_dry_run(extraction: "Extraction", *, as_json: bool) -> None:
    from pipelines.extract import estimate_bytes

    plan = extraction.plan
    n_bytes = estimate_bytes(extraction) if plan.parts else 0
    if as_json:
        facts = {name: value for name, value in vars(plan).items() if name != "parts"}
        click.echo(json.dumps({**facts, "n_parts": len(plan.parts), "n_bytes_estimated": n_bytes}))
    else:
        click.echo(
            f"would extract {plan.n_to_do} clips in {len(plan.parts)} parts, "
            f"about {bytes_in_words(n_bytes)}"
        )


def _summarise(extraction: "Extraction", report: "RunReport", *, as_json: bool) -> None:
    from pipelines.bottleneck import find_bottleneck

    tally = report.tally
    bottleneck = find_bottleneck(tally)
    if as_json:
        run = {
            name: getattr(report, name) for name in ("elapsed_s", "stopped", "n_lost", "part_ids")
        }
        before = {"n_failed_before": extraction.plan.n_failed_before}
        facts = {**asdict(tally), **run, **before, "reasons": dict(report.reasons)}
        facts["bottleneck"] = asdict(bottleneck) if bottleneck else None
        click.echo(json.dumps(facts))
    click.echo(
        f"{tally.n_ok} stored, {tally.n_empty} empty, {tally.n_failed} failed in {report.elapsed_s:.1f} s",
        err=True,
    )
    for reason, number in report.reasons.most_common():
        click.echo(f"  {number} x {reason}", err=True)
    for clip_id, reason in report.examples[:5]:
        click.echo(f"  e.g. {clip_id}: {reason}", err=True)
    if report.n_lost:
        click.echo(f"{report.n_lost} times a worker died, and its part was made again", err=True)
    if bottleneck:
        click.echo(bottleneck.text, err=True)
    if report.stopped:
        left = extraction.plan.n_to_do - tally.n_clips
        click.echo(f"stopped with {left} clips left: run the same command again to go on", err=True)
