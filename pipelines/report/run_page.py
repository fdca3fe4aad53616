"""A run's own page: ``report.html`` in its folder, with all it needs inside."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mer_store.layers import describe_layers
from pipelines.pictures import embed
from pipelines.report.figures import draw_attention, draw_bars, draw_confusion, draw_curves
from pipelines.report.html import Markup, note, section, table, tag, text, write_document
from pipelines.report.scores import SELECTIONS, percent, score_of
from pipelines.train.run_folder import CONFIG, RunFolder

FILE = "report.html"
SWEEP, ATTENTION = "layer_sweep.png", "attention.csv"
CURVES = {
    "loss": ("loss", "loss_ce", "loss_mlm"),
    "weighted F1 of the clips that choose the epoch": ("weighted_f1",),
    "recall on held-out pairs": (
        "video_to_audio_at_1", "audio_to_video_at_1", "video_to_audio_at_10", "audio_to_video_at_10",
    ),
    "temperature": ("temperature",),
}  # fmt: skip


def write_run_page(run: RunFolder) -> Path:
    """Write the page of a finished run."""
    summary = run.summary
    sections = [
        _head(run, summary),
        *_pictures(run, summary),
        *_scores(summary),
        *_attention(run, summary),
        _search(summary),
        _inputs(run),
        _facts(run, summary),
    ]
    return write_document(run.path / FILE, run.path.name, filter(None, sections))


def _head(run: RunFolder, summary: Mapping[str, Any]) -> Markup:
    lines = [f"<h1>{text(run.task)}: {text(run.path.name)}</h1>"]
    if "weighted_f1_mean" in summary:
        selection = summary["selection"]
        lines.append(
            f"<p><span class=big>{text(score_of(summary))}</span> weighted F1 (%), mean ± standard "
            f"deviation over {summary['n_folds']} folds x {summary['n_repeats']} repeats (spread over "
            f"{summary['spread_over']}), {summary['n_clips']:,} clips scored</p>"
        )
        lines.append(note(f"Epoch reported: {selection}: {SELECTIONS[selection]}"))
        if "test" in summary:
            test = summary["test"]
            lines.append(
                f"<p>Test set: <b>{percent(test['weighted_f1'])}</b> on {test['n_clips']:,} clips, mean "
                f"of the folds' logits.</p>"
            )
    elif "n_pairs" in summary:
        lines.append(
            f"<p><span class=big>{percent(summary['video_to_audio_at_10'])}</span> recall@10 (%), video "
            f"to audio, on {summary['n_held_out']:,} held-out pairs; chance is "
            f"{percent(summary['chance_at_10'])}</p>"
        )
    if "refit_saw" in summary:
        lines.append(note(f"The features made with this adapter saw {summary['refit_saw']}."))
    if untrained := sorted(
        {item["modality"] for item in run.inputs if not item["spec"]["trained"]}
    ):
        words = f"untrained or planted features: {', '.join(untrained)}"
        lines.append(
            f"<p>{tag(words)} The scores are statements about the code, not about a model.</p>"
        )
    return Markup("".join(lines))


def _pictures(run: RunFolder, summary: Mapping[str, Any]) -> Iterator[Markup]:
    if (run.path / SWEEP).is_file():
        picture = embed((run.path / SWEEP).read_bytes(), "weighted F1 of each layer")
        yield section("Layer by layer", picture)
    metrics = run.metrics()
    logged = {name for entry in metrics for name in entry}
    groups = {
        title: [name for name in names if name in logged]
        for title, names in CURVES.items()
        if logged & set(names)
    }
    if groups:
        yield section(
            "Training", embed(draw_curves(metrics, groups), "what was logged over the epochs")
        )
    if weights := summary.get("layer_weights"):
        names = [str(item["layer"]) for item in weights]
        bars = draw_bars(
            names, [item["mean"] for item in weights], [item["std"] for item in weights],
            "learnt weight of each layer, mean ± standard deviation over the folds",
        )  # fmt: skip
        yield section("Layers", embed(bars, "learnt weight of each layer"))


def _scores(summary: Mapping[str, Any]) -> Iterator[Markup]:
    if "confusion" not in summary:
        return
    confusion = np.array(summary["confusion"])
    classes = list(summary["f1_by_class"])
    rows = [
        [name, percent(f1), int(confusion[number].sum()), int(confusion[:, number].sum())]
        for number, (name, f1) in enumerate(summary["f1_by_class"].items())
    ]
    yield section(
        "Classes",
        note("Every clip is predicted by models that were not trained on it."),
        table(["class", "F1 (%)", "clips labelled so", "clips predicted so"], rows),
        embed(draw_confusion(confusion, classes), "confusion matrix"),
    )


def _attention(run: RunFolder, summary: Mapping[str, Any]) -> Iterator[Markup]:
    path = run.path / ATTENTION
    if not path.is_file():
        return
    predictions = run.predictions()
    label = dict(zip(predictions.clip_ids, predictions.labels, strict=True))
    sums: dict[str, list[list[float]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    for clip_id, *weights in rows:
        if clip_id in label:
            sums.setdefault(label[clip_id], []).append([float(value) for value in weights])
    means = {
        f"{name} ({len(sums[name]):,})": dict(
            zip(header[1:], np.mean(sums[name], axis=0).tolist(), strict=True)
        )
        for name in summary["f1_by_class"]
        if name in sums
    }
    if means:
        yield section(
            "Attention by predicted class",
            note("Mean weight of each modality; one that a clip lacks has none."),
            embed(draw_attention(means), "attention on each modality by predicted class"),
        )


def _search(summary: Mapping[str, Any]) -> Markup | None:
    if not (draws := summary.get("draws")):
        return None
    rows = [
        [draw["hidden"], draw["dropout"], draw["lr"], percent(draw["weighted_f1_mean"])]
        for draw in draws
    ]
    words = "The best draw was trained again. Its score among the draws is optimistic: it was chosen by it."
    return section(
        "Search", note(words), table(["hidden", "dropout", "lr", "weighted F1 (%)"], rows)
    )


def _inputs(run: RunFolder) -> Markup:
    rows = []
    for item in run.inputs:
        spec = item["spec"]
        mark = "" if spec["trained"] else f" {tag('untrained')}"
        name = Markup(f"{text(item['feature_set'])}{mark}")
        layers = describe_layers(item["layers"])
        rows.append(
            [item["modality"], name, spec["recipe"], layers, item["n_clips"], item["fingerprint"]]
        )
    head = ["modality", "feature set", "recipe", "layers", "clips", "fingerprint"]
    return section("Features read", table(head, rows))


def _facts(run: RunFolder, summary: Mapping[str, Any]) -> Markup:
    plain = {
        name: value
        for name, value in summary.items()
        if isinstance(value, int | float | str) and name not in {"task", "weighted_f1"}
    }
    versions = ", ".join(f"{name} {number}" for name, number in summary["versions"].items())
    settings = (run.path / CONFIG).read_text(encoding="utf-8")
    return section(
        "Settings and figures",
        Markup(f"<pre>{text(settings)}</pre>"),
        table(
            ["figure", "value"], [[name.replace("_", " "), value] for name, value in plain.items()]
        ),
        note(f"Versions: {versions}"),
    )
