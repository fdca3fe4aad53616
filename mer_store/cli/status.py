"""``mer-store status``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mer_store.cli.settings import any_store_option, clips_option, json_option
from mer_store.layers import describe_layers

if TYPE_CHECKING:
    from mer_store.store.feature_set import FeatureSet

N_REASONS = 5


@click.command()
@any_store_option
@clips_option
@json_option
def status(store: str, clips: Path, *, as_json: bool) -> None:
    """Show what the store holds: clips, layers and outcomes of each feature set.

    Where the clip list is there, also how many of its clips each feature set covers.

    \b
    Example:
      mer-store status
      mer-store status --json | jq '.feature_sets[].layers'
    """
    from mer_store.opening import open_store

    clip_ids = _listed(clips)
    opened = open_store(store)
    facts = [_facts(feature_set, clip_ids) for feature_set in opened.feature_sets()]
    if as_json:
        click.echo(json.dumps({"store": opened.where, "feature_sets": facts}, ensure_ascii=False))
        return
    if not facts:
        click.echo(f"{opened.where}: empty; fill it with `mer-store extract --modality audio`")
    for fact in facts:
        _print(fact)


def _listed(clips: Path) -> list[str] | None:
    from mer_store.clips.clip_list import ClipList

    return [clip.clip_id for clip in ClipList.read(clips).clips] if clips.is_file() else None


def _facts(feature_set: "FeatureSet", clip_ids: list[str] | None) -> dict[str, Any]:
    from mer_store.store.ledger import Status
    from mer_store.store.summary import summarise

    spec, summary = feature_set.spec, summarise(feature_set)
    facts: dict[str, Any] = {
        "modality": spec.modality,
        "model": spec.model,
        "level": spec.level,
        "recipe": spec.recipe,
        "fingerprint": spec.fingerprint,
        "trained": spec.trained,
        "stored_dtype": spec.stored_dtype,
        "layers": list(feature_set.layers),
        "ok": summary.n_ok,
        "empty": summary.n_empty,
        "failed": summary.n_failed,
        "reasons": summary.reasons,
        "parts": summary.n_parts,
        "bytes": summary.n_bytes,
    }
    if clip_ids is not None:
        facts["listed"] = len(clip_ids)
        facts["listed_missing"] = int((feature_set.ledger(clip_ids).status == Status.MISSING).sum())
    return facts


def _print(fact: dict[str, Any]) -> None:
    name = f"{fact['modality']}  {fact['model']}  {fact['level']}  {fact['fingerprint']}"
    recipe = "" if fact["recipe"] == "default" else f"  recipe {fact['recipe']}"
    untrained = "" if fact["trained"] else "  UNTRAINED (random weights)"
    click.echo(f"{name}{recipe}{untrained}")
    click.echo(f"  layers  {describe_layers(fact['layers'])}")
    missing = (
        f", {fact['listed_missing']} listed but not tried" if fact.get("listed_missing") else ""
    )
    click.echo(
        f"  clips   {fact['ok']} ok, {fact['empty']} empty, {fact['failed']} failed{missing}"
    )
    n_parts = "1 part" if fact["parts"] == 1 else f"{fact['parts']} parts"
    click.echo(f"  size    {bytes_in_words(fact['bytes'])} in {n_parts}, {fact['stored_dtype']}")
    for reason, number in list(fact["reasons"].items())[:N_REASONS]:
        click.echo(f"          {number} x {reason}")


def bytes_in_words(n_bytes: int) -> str:
    """Write a size as people read it: ``1.4 GiB``."""
    value, units = float(n_bytes), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.1f} {units[0]}" if units[0] != "bytes" else f"{n_bytes} bytes"
