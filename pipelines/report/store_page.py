"""One page for a store and all its runs."""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mer_store.clips.clip_list import ClipList
from mer_store.layers import describe_layers
from mer_store.store.feature_set import FeatureSet
from mer_store.store.ledger import Status
from mer_store.store.store import Store
from mer_store.store.summary import summarise
from pipelines.report.html import (
    Cell,
    Markup,
    Number,
    code,
    link,
    note,
    section,
    table,
    tag,
    text,
    write_document,
)
from pipelines.report.run_page import FILE as RUN_PAGE
from pipelines.report.scores import OPTIMISTIC, count, moment, percent, score_of
from pipelines.report.shapes import OUTCOMES, bars
from pipelines.report.table2 import Filled
from pipelines.report.table2_text import as_html
from pipelines.train.run_folder import RunFolder


def write_store_page(
    store: Store,
    clip_list: ClipList | None,
    runs: Sequence[RunFolder],
    rows: Sequence[Filled],
    target: Path,
) -> Path:
    """Write the page of a store, the runs on it and Table 2 into `target`."""
    feature_sets = store.feature_sets()
    listed = "no clip list"
    if clip_list is not None:
        listed = f"{count(len(clip_list.clips), 'clip')} listed in {clip_list.path}"
    held = f"{count(len(feature_sets), 'feature set')}, {count(len(runs), 'run')}, {listed}"
    sections = [
        f"<h1>{text(store.where)}</h1>{note(held)}",
        section("Coverage", *_coverage(feature_sets, clip_list)),
        section("Clips without features, by reason", _reasons(feature_sets)),
        section("Runs", _runs(runs, target)),
        section("Table 2", as_html(rows, partial(_linked, target=target))),
    ]
    return write_document(target, f"{store.where}: mer-store", sections)


def _coverage(feature_sets: Sequence[FeatureSet], clip_list: ClipList | None) -> Iterator[Markup]:
    if not feature_sets:
        yield note("The store is empty; fill it with `mer-store extract --modality audio`.")
        return
    counts = [dict(zip(OUTCOMES, _counts(item, clip_list), strict=True)) for item in feature_sets]
    names = [_name(item) for item in feature_sets]
    yield bars(list(zip(names, counts, strict=True)), OUTCOMES)
    rows: list[list[Cell]] = []
    for item, numbers in zip(feature_sets, counts, strict=True):
        spec, layers = item.spec, describe_layers(item.layers)
        mark = "" if spec.trained else f" {tag('untrained')}"
        model = Markup(f"{text(spec.model)}{mark}")
        size = Number(f"{summarise(item).n_bytes / 2**20:,.1f} MiB")
        rows.append(
            [
                spec.modality,
                model,
                spec.level,
                spec.recipe,
                layers,
                *numbers.values(),
                size,
                code(spec.fingerprint),
            ]
        )
    head = ["modality", "model", "level", "recipe", "layers", *OUTCOMES, "size", "fingerprint"]
    yield table(head, rows)


def _name(feature_set: FeatureSet) -> str:
    spec = feature_set.spec
    return f"{spec.modality} {spec.level} {spec.recipe} {spec.fingerprint[:4]}"


def _counts(feature_set: FeatureSet, clip_list: ClipList | None) -> list[int]:
    """Return how many clips are ok, empty, failed and missing: of the list where there is one."""
    if clip_list is None:
        summary = summarise(feature_set)
        return [summary.n_ok, summary.n_empty, summary.n_failed, 0]
    status = feature_set.ledger([clip.clip_id for clip in clip_list.clips]).status
    order = (Status.OK, Status.EMPTY, Status.FAILED, Status.MISSING)
    return [int((status == one).sum()) for one in order]


def _reasons(feature_sets: Sequence[FeatureSet]) -> Markup:
    """Return a row for each reason; feature sets that count the same share it."""
    shared: dict[tuple[str, str, int], list[str]] = {}
    for item in feature_sets:
        for reason, number in summarise(item).reasons.items():
            name = _name(item).removeprefix(f"{item.spec.modality} ")
            shared.setdefault((item.spec.modality, reason, number), []).append(name)
    rows: list[list[Cell]] = [
        [modality, reason, number, ", ".join(names)]
        for (modality, reason, number), names in shared.items()
    ]
    return table(["modality", "reason", "clips", "in each of"], rows)


def _runs(runs: Sequence[RunFolder], target: Path) -> Markup:
    rows: list[list[Cell]] = []
    summaries = [(run.summary, run) for run in runs]
    for summary, run in sorted(summaries, key=lambda both: both[0]["finished_at"], reverse=True):
        score = Number("-")
        if "weighted_f1_mean" in summary:
            score = score_of(summary)
        elif "video_to_audio_at_10" in summary:
            score = Number(f"recall@10 {percent(summary['video_to_audio_at_10'])}")
        test = percent(summary["test"]["weighted_f1"]) if "test" in summary else Number("-")
        selection = text(summary["selection"])
        if selection == OPTIMISTIC:
            selection = Markup(f"{selection} {tag('optimistic')}")
        features = ", ".join(map(_read, run.inputs))
        finished = Number(moment(summary["finished_at"]))
        rows.append([_linked(run, target), score, test, selection, features, finished])
    return table(["run", "weighted F1 (%)", "test (%)", "selection", "features", "finished"], rows)


def _read(item: Mapping[str, Any]) -> str:
    """Write what a run read as ``audio adapter fused``."""
    words = [item["modality"], item["spec"]["recipe"], describe_layers(item["layers"])]
    return " ".join(dict.fromkeys(words))


def _linked(run: RunFolder, target: Path) -> Markup:
    """Return the run's name, a link where it has a page."""
    page = run.path / RUN_PAGE
    if not page.is_file():
        return text(run.path.name)
    beside = os.path.relpath(page.resolve(), target.parent.resolve())
    return link(run.path.name, quote(beside))
