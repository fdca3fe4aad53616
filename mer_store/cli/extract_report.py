"""What ``mer-store extract`` says of its plan and of its end."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from mer_store.cli.status import bytes_in_words
from mer_store.errors import shown
from mer_store.layers import describe_layers

if TYPE_CHECKING:
    from pipelines.extract import Extraction
    from pipelines.run import RunReport


def announce(extraction: "Extraction") -> None:
    """Say what is stored, and what there is to do."""
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


def print_dry_run(extraction: "Extraction", *, as_json: bool) -> None:
    """Print what an extraction would do."""
    from pipelines.estimate import estimate_bytes

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


def summarise(extraction: "Extraction", report: "RunReport", *, as_json: bool) -> None:
    """Print what an extraction did."""
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
        facts["left_out"] = {
            name: {"reason": reason, "n_clips": report.n_left_out[name]}
            for name, reason in report.left_out.items()
        }
        click.echo(json.dumps(facts))
    click.echo(
        f"{tally.n_ok} stored, {tally.n_empty} empty, {tally.n_failed} failed in {report.elapsed_s:.1f} s",
        err=True,
    )
    for reason, number in report.reasons.most_common():
        click.echo(f"  {number} x {reason}", err=True)
    for clip_id, reason in report.examples[:5]:
        click.echo(f"  e.g. {clip_id}: {reason}", err=True)
    for name, reason in report.left_out.items():
        click.echo(
            f"{name} is missing for {report.n_left_out[name]} clips, none of them recorded: {shown(reason)}; "
            f"mend that and run the same command again",
            err=True,
        )
    if report.n_lost:
        click.echo(f"{report.n_lost} times a worker died, and its part was made again", err=True)
    if bottleneck:
        click.echo(bottleneck.text, err=True)
    if report.stopped:
        left = extraction.plan.n_to_do - tally.n_clips
        click.echo(f"stopped with {left} clips left: run the same command again to go on", err=True)
