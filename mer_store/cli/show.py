"""``mer-store show``."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mer_store.cli.settings import any_store_option, clips_option, json_option
from mer_store.errors import UsageError
from mer_store.layers import describe_layers
from mer_store.spec import IMPORTED

if TYPE_CHECKING:
    from mer_store.clips.clip_list import Clip
    from mer_store.spec import Spec
    from mer_store.store.feature_set import FeatureSet


@click.command()
@click.argument("clip_id")
@any_store_option
@clips_option
@json_option
def show(clip_id: str, store: str, clips: Path, *, as_json: bool) -> None:
    """Show what became of a clip in every feature set, and why.

    Where the clip list is there, its media are compared with what was extracted: a clip whose media or
    transcript changed is stale, and the next extract makes it again.

    \b
    Example:
      mer-store show sample_00000008
    """
    from mer_store.opening import open_store

    clip = _find(clips, clip_id)
    opened = open_store(store)
    facts = [_facts(feature_set, clip_id, clip) for feature_set in opened.feature_sets()]
    if clip is None and all(fact["status"] == "missing" for fact in facts):
        raise UsageError(f"clip {clip_id!r}: neither in {opened.where} nor in {clips}")
    if as_json:
        click.echo(json.dumps({"clip_id": clip_id, "feature_sets": facts}, ensure_ascii=False))
        return
    click.echo(clip_id + (f"  {clip.path}" if clip and clip.path else ""))
    for fact in facts:
        _print(fact)


def _find(clips: Path, clip_id: str) -> "Clip | None":
    from mer_store.clips.clip_list import ClipList

    if not clips.is_file():
        return None
    return next((clip for clip in ClipList.read(clips).clips if clip.clip_id == clip_id), None)


def _facts(feature_set: "FeatureSet", clip_id: str, clip: "Clip | None") -> dict[str, Any]:
    from mer_store.store.ledger import Status
    from mer_store.store.summary import outcomes_of

    spec, ledger = feature_set.spec, feature_set.ledger([clip_id])
    has = ledger.has(feature_set.layers)[0]
    outcomes = outcomes_of(feature_set, clip_id)
    return {
        "feature_set": f"{spec.modality}/{spec.name}",
        "trained": spec.trained,
        "status": Status(int(ledger.status[0])).name.lower(),
        "reason": ledger.reasons[0],
        "layers": [layer for layer, there in zip(feature_set.layers, has, strict=True) if there],
        "digest": ledger.digest[0],
        "stale": _stale(spec, ledger.digest[0], clip),
        "parts": [{**asdict(item), "status": item.status.name.lower()} for item in outcomes],
    }


def _stale(spec: "Spec", digest: str | None, clip: "Clip | None") -> str | None:
    """Say why the clip is stale, or None where it is not or cannot be told."""
    now = _digest_now(spec, clip) if clip is not None else None
    if digest is None or now is None or now == digest:
        return None
    what = "transcript" if spec.modality == "text" else "media"
    return f"{what} changed since it was extracted ({digest[:19]}… then, {now[:19]}… now)"


def _digest_now(spec: "Spec", clip: "Clip") -> str | None:
    """Hash the bytes that `spec` extracts `clip` from; None where they are not here."""
    if spec.weights == IMPORTED:  # made of files of features, not of media
        return None
    from extractors.contract import ClipProblem, Source
    from extractors.media.blob import read_blob, text_blob
    from extractors.visual.faces.openface import OpenFaceCrops

    path = clip.path
    if spec.preprocessing.get("faces", {}).get("source") == OpenFaceCrops.settings["source"]:
        path = OpenFaceCrops().path(Source(clip.clip_id, clip.path))
    try:
        if spec.modality == "text":
            return text_blob(clip.clip_id, clip.text).origin.digest if clip.text else None
        return read_blob(clip.clip_id, path).origin.digest if path else None
    except ClipProblem:
        return None


def _print(fact: dict[str, Any]) -> None:
    untrained = "" if fact["trained"] else "  UNTRAINED"
    click.echo(f"{fact['feature_set']}{untrained}")
    reason = f": {fact['reason']}" if fact["reason"] else ""
    click.echo(f"  {fact['status']}{reason}")
    if fact["layers"]:
        click.echo(f"  layers {describe_layers(fact['layers'])}")
    for part in fact["parts"]:
        old = "" if part["current"] else ", superseded: made from other media"
        said = (
            part["reason"] or f"{part['n_rows']} rows of layers {describe_layers(part['layers'])}"
        )
        click.echo(f"  part {part['part_id']} (attempt {part['attempt']}): {said}{old}")
    if fact["stale"]:
        click.echo(f"  stale: {fact['stale']}")
