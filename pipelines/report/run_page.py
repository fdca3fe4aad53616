"""A run's own page: ``report.html`` in its folder, with all it needs inside."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mer_store.layers import describe_layers
from pipelines.report.figures import draw_curves, draw_layer_weights
from pipelines.report.html import (
    Cell,
    Markup,
    Number,
    code,
    note,
    pair,
    picture,
    section,
    table,
    tag,
    text,
    write_document,
)
from pipelines.report.run_head import write_head
from pipelines.report.scores import count, percent
from pipelines.report.shapes import bars, colours_of, confusion_table
from pipelines.train.run_folder import CONFIG, RunFolder

FILE = "report.html"
SWEEP, ATTENTION = "layer_sweep.png", "attention.csv"
CURVES = {
    "loss": ("loss", "loss_ce", "loss_mlm"),
    "weighted F1 of the clips that choose the epoch": ("weighted_f1",),
    "recall at 10 on held-out pairs; dotted: chance": ("video_to_audio_at_10", "audio_to_video_at_10"),
    "recall at 1 on held-out pairs; dotted: chance": ("video_to_audio_at_1", "audio_to_video_at_1"),
    "temperature": ("temperature",),
}  # fmt: skip
LONGEST = 28
SHOWN_ABOVE = {"task", "weighted_f1", "weighted_f1_mean", "weighted_f1_std", "n_folds", "n_repeats",
               "spread_over", "selection", "draws_ranked_by", "refit_saw", "finished_at"}  # fmt: skip


def write_run_page(run: RunFolder) -> Path:
    """Write the page of a finished run."""
    summary = run.summary
    sections = [
        write_head(run, summary),
        *_pictures(run, summary),
        *_scores(summary),
        *_attention(run, summary),
        *_search(summary),
        _inputs(run),
        _facts(run, summary),
    ]
    return write_document(run.path / FILE, run.path.name, sections)


def _pictures(run: RunFolder, summary: Mapping[str, Any]) -> Iterator[Markup]:
    if (run.path / SWEEP).is_file():
        scored = [
            f"{one['layer']}: {percent(one['weighted_f1_mean'])}"
            for one in summary.get("layers", [])
        ]
        words = f"weighted F1 (%) by layer: {', '.join(scored)}"
        sweep = picture((run.path / SWEEP).read_bytes(), words)
        yield section("Layer by layer", sweep)
    metrics = run.metrics()
    logged = {name for entry in metrics for name in entry}
    groups = {
        title: [name for name in names if name in logged]
        for title, names in CURVES.items()
        if logged & set(names)
    }
    if groups:
        chance = {
            name: summary[f"chance_at_{name.rpartition('_')[2]}"]
            for name in logged
            if f"chance_at_{name.rpartition('_')[2]}" in summary
        }
        curves = draw_curves(metrics, groups, chance)
        yield section("Training", picture(curves, _first_and_last(metrics, groups)))
    weights = summary.get("layer_weights", [])
    if len(weights) > 1:
        words = (
            "Size of each layer's learnt weight. The sign of all of them together means nothing: the "
            "classifier can turn it round."
            if "size" in weights[0]
            else "Learnt weight of each layer in the sum."
        )
        key = "size" if "size" in weights[0] else "mean"
        shown = ", ".join(f"{one['layer']}: {one[key]:.3g}" for one in weights)
        drawn = picture(draw_layer_weights(weights), f"learnt weight by layer: {shown}")
        yield section("Layers", note(words), drawn)


def _first_and_last(
    metrics: Sequence[Mapping[str, Any]], groups: Mapping[str, Sequence[str]]
) -> str:
    """Say what the curves show: ``over 60 epochs: loss from 1.78 to 0.42``."""
    words = []
    for name in (name for names in groups.values() for name in names):
        values = [entry[name] for entry in metrics if name in entry]
        words.append(f"{name.replace('_', ' ')} from {values[0]:.3g} to {values[-1]:.3g}")
    return f"over {count(len(metrics), 'epoch')}: {', '.join(words)}"


def _scores(summary: Mapping[str, Any]) -> Iterator[Markup]:
    if "confusion" not in summary:
        return
    confusion = np.array(summary["confusion"])
    rows = [
        [name, percent(f1), int(confusion[number].sum()), int(confusion[:, number].sum())]
        for number, (name, f1) in enumerate(summary["f1_by_class"].items())
    ]
    yield section(
        "Classes",
        note("Every scored clip is predicted by models that were not trained on it."),
        pair(
            confusion_table(summary["confusion"], list(summary["f1_by_class"])),
            table(["class", "F1 (%)", "labelled so", "predicted so"], rows),
        ),
    )
    by_repeat = np.array(summary["weighted_f1_by_lane"]).reshape(summary["n_repeats"], -1)
    folds = [f"fold {number}" for number in range(by_repeat.shape[1])]
    lanes: list[list[Cell]] = [
        [f"repeat {number}", *map(percent, row), percent(row.mean())]
        for number, row in enumerate(by_repeat)
    ]
    yield section("Folds", table(["weighted F1 (%)", *folds, "mean"], lanes))


def _attention(run: RunFolder, summary: Mapping[str, Any]) -> Iterator[Markup]:
    path = run.path / ATTENTION
    if not path.is_file():
        return
    predictions = run.predictions()
    label = dict(zip(predictions.clip_ids, predictions.labels, strict=True))
    weights: dict[str, list[list[float]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    for clip_id, *values in rows:
        if clip_id in label:
            weights.setdefault(label[clip_id], []).append([float(value) for value in values])
    modalities = header[1:]
    means = [
        (
            f"{name} ({count(len(weights[name]), 'clip')})",
            dict(zip(modalities, np.mean(weights[name], axis=0).tolist(), strict=True)),
        )
        for name in summary["f1_by_class"]
        if name in weights
    ]
    if means:
        yield section(
            "Attention by predicted class",
            note("Mean weight of each modality over all clips predicted so; one that a clip lacks has 0."),
            bars(means, colours_of(modalities), ".2f"),
            table(
                ["predicted class", *modalities],
                [[name, *(Number(f"{mean[one]:.3f}") for one in modalities)] for name, mean in means],
            ),
        )  # fmt: skip


def _search(summary: Mapping[str, Any]) -> Iterator[Markup]:
    if not (draws := summary.get("draws")):
        return
    chosen = summary["model"]
    names = list(chosen)
    inner = ["inner_f1_mean"] if "inner_f1_mean" in draws[0] else []
    rows: list[list[Cell]] = [
        [
            *(percent(draw[name]) for name in ("weighted_f1_mean", *inner)),
            *(draw[name] for name in names),
            "chosen" if all(draw[name] == chosen[name] for name in names) else "",
        ]
        for draw in draws
    ]
    words = f"The best draw was trained again. It was chosen on {summary['draws_ranked_by']}."
    head = ["weighted F1 (%)", *("on the inner part (%)" for _ in inner), *names, ""]
    yield section(f"Search among {count(len(draws), 'draw')}", note(words), table(head, rows))


def _inputs(run: RunFolder) -> Markup:
    rows: list[list[Cell]] = []
    for item in run.inputs:
        spec = item["spec"]
        mark = "" if spec["trained"] else f" {tag('untrained')}"
        name = Markup(f"{text(spec['model'])}{mark}")
        layers = describe_layers(item["layers"])
        rows.append(
            [
                item["modality"],
                name,
                spec["level"],
                spec["recipe"],
                layers,
                item["n_clips"],
                code(item["fingerprint"]),
            ]
        )
    head = ["modality", "model", "level", "recipe", "layers", "clips", "fingerprint"]
    return section("Features read", table(head, rows))


def _facts(run: RunFolder, summary: Mapping[str, Any]) -> Markup:
    rows: list[list[Cell]] = []
    for name, value in summary.items():
        if name in SHOWN_ABOVE:
            continue
        words = name.replace("_", " ")
        if isinstance(value, int | float):
            rows.append([words, value])
        elif isinstance(value, str):
            rows.append([words, code(_short(value))])
        elif name == "epochs_chosen":
            rows.append([words, ", ".join(map(str, value))])
    versions = ", ".join(f"{name} {number}" for name, number in summary["versions"].items())
    settings = (run.path / CONFIG).read_text(encoding="utf-8")
    return section(
        "Settings and figures",
        pair(Markup(f"<pre>{text(settings)}</pre>"), table(["figure", "value"], rows)),
        note(f"Made with {versions}."),
    )


def _short(words: str) -> str:
    """Leave out the end of a digest: all of it stands in ``summary.json``."""
    return words if len(words) <= LONGEST else f"{words[:LONGEST]}…"
