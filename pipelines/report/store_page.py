"""One page for a store and all its runs."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mer_store.clips.clip_list import ClipList
from mer_store.layers import describe_layers
from mer_store.store.feature_set import FeatureSet
from mer_store.store.ledger import Status
from mer_store.store.store import Store
from mer_store.store.summary import summarise
from pipelines.pictures import embed
from pipelines.report.figures import draw_coverage
from pipelines.report.html import (
    Cell,
    Markup,
    link,
    note,
    section,
    table,
    tag,
    text,
    write_document,
)
from pipelines.report.run_page import FILE as RUN_PAGE
from pipelines.report.scores import percent, score_of
from pipelines.report.table2 import Filled
from pipelines.report.table2_text import as_html
from pipelines.train.run_folder import RunFolder

OUTCOMES = ("ok", "empty", "failed", "missing")


def write_store_page(
    store: Store,
    clip_list: ClipList | None,
    runs: Sequence[RunFolder],
    rows: Sequence[Filled],
    target: Path,
) -> Path:
    """Write the page of a store, the runs on it and Table 2 into `target`."""
    feature_sets = store.feature_sets()
    listed = f", {len(clip_list.clips):,} clips listed in {clip_list.path}" if clip_list else ""
    sections = [
        f"<h1>{text(store.path)}</h1>{note(f'{len(feature_sets)} feature sets, {len(runs)} runs{listed}')}",
        section("Coverage", *_coverage(feature_sets, clip_list)),
        section("Clips without features, by reason", _reasons(feature_sets)),
        section("Runs", _runs(runs, target)),
        section("Table 2", as_html(rows)),
    ]
    return write_document(target, f"{store.path}: mer-store", sections)


def _coverage(feature_sets: Sequence[FeatureSet], clip_list: ClipList | None) -> Iterator[Markup]:
    if not feature_sets:
        yield note("The store is empty; fill it with `mer-store extract --modality audio`.")
        return
    counts = np.array([_counts(item, clip_list) for item in feature_sets])
    names = [
        f"{item.spec.modality} {item.spec.level} {item.spec.recipe} {item.spec.fingerprint[:4]}"
        for item in feature_sets
    ]
    yield Markup(
        embed(draw_coverage(names, counts, OUTCOMES), "clips by outcome in each feature set")
    )
    rows: list[list[Cell]] = []
    for item, numbers in zip(feature_sets, counts.tolist(), strict=True):
        summary, spec = summarise(item), item.spec
        mark = "" if spec.trained else f" {tag('untrained')}"
        model = Markup(f"{text(spec.model)}{mark}")
        size = f"{summary.n_bytes / 2**20:,.1f} MiB"
        layers = describe_layers(item.layers)
        rows.append(
            [
                spec.modality,
                model,
                spec.level,
                spec.recipe,
                layers,
                *numbers,
                size,
                spec.fingerprint,
            ]
        )
    head = ["modality", "model", "level", "recipe", "layers", *OUTCOMES, "size", "fingerprint"]
    yield table(head, rows)


def _counts(feature_set: FeatureSet, clip_list: ClipList | None) -> list[int]:
    """Return how many clips are ok, empty, failed and missing: of the list where there is one."""
    if clip_list is None:
        summary = summarise(feature_set)
        return [summary.n_ok, summary.n_empty, summary.n_failed, 0]
    status = feature_set.ledger([clip.clip_id for clip in clip_list.clips]).status
    order = (Status.OK, Status.EMPTY, Status.FAILED, Status.MISSING)
    return [int((status == one).sum()) for one in order]


def _reasons(feature_sets: Sequence[FeatureSet]) -> Markup:
    rows: list[list[Cell]] = [
        [item.spec.modality, item.spec.level, item.spec.recipe, reason, number]
        for item in feature_sets
        for reason, number in summarise(item).reasons.items()
    ]
    return table(["modality", "level", "recipe", "reason", "clips"], rows)


def _runs(runs: Sequence[RunFolder], target: Path) -> Markup:
    rows: list[list[Cell]] = []
    for run in runs:
        summary, page = run.summary, run.path / RUN_PAGE
        name = Markup(text(run.path.name))
        if page.is_file():
            name = link(run.path.name, os.path.relpath(page, target.parent))
        score = "-"
        if "weighted_f1_mean" in summary:
            score = score_of(summary)
        elif "video_to_audio_at_10" in summary:
            score = f"recall@10 {percent(summary['video_to_audio_at_10'])}"
        test = percent(summary["test"]["weighted_f1"]) if "test" in summary else "-"
        features = ", ".join(
            f"{item['modality']} {item['spec']['recipe']} {describe_layers(item['layers'])}"
            for item in run.inputs
        )
        rows.append(
            [run.task, name, score, test, summary["selection"], features, summary["finished_at"]]
        )
    head = ["task", "run", "weighted F1 (%)", "test (%)", "selection", "features", "finished"]
    return table(head, rows)
