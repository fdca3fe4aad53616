"""The head of a run's page: its scores, and what has to be known to read them."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.report.html import Markup, cards, note, tag, text
from pipelines.report.scores import OPTIMISTIC, SELECTIONS, count, moment, percent, score_of
from pipelines.train.run_folder import RunFolder


def write_head(run: RunFolder, summary: Mapping[str, Any]) -> Markup:
    """Return title, scores and warnings."""
    finished = f"{run.task}, finished {moment(summary['finished_at'])}"
    lines = [
        f"<h1>{text(run.path.name)}</h1>",
        note(finished),
        cards([*_supervised(summary), *_alignment(summary)]),
    ]
    if "weighted_f1_mean" in summary:
        selection = summary["selection"]
        mark = f"{tag('optimistic')} " if selection == OPTIMISTIC else ""
        lines.append(
            f"<p>{mark}Epoch reported (selection {text(selection)}): {text(SELECTIONS[selection])}</p>"
        )
        if any("adapter" in item["spec"]["preprocessing"] for item in run.inputs):
            lines.append(
                f"<p>{tag('optimistic')} Reads features of adapters that had seen the labels of all folds. "
                f"The score of a test set is not touched by this.</p>"
            )
    if len(layers := summary.get("layers", [])) > 1:
        lines.append(
            note(
                f"Best of {len(layers)} layers, chosen by this score: a little optimistic. Classes "
                f"and folds below are of layer {summary['best_layer']}."
            )
        )
    if "refit_saw" in summary:
        lines.append(note(f"The adapter that features are made with saw {summary['refit_saw']}."))
    untrained = sorted({one["modality"] for one in run.inputs if not one["spec"]["trained"]})
    if untrained:
        mark = tag(f"untrained: {', '.join(untrained)}")
        lines.append(
            f"<p>{mark} Features of no trained model, or planted ones: the scores are statements about the "
            f"code.</p>"
        )
    return Markup("".join(lines))


def _supervised(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "weighted_f1_mean" in summary:
        words = (
            f"weighted F1 (%) of {count(summary['n_clips'], 'clip')}: mean ± standard deviation over the "
            f"{summary['spread_over']}; {count(summary['n_folds'], 'fold')} × "
            f"{count(summary['n_repeats'], 'repeat')}"
        )
        yield score_of(summary), words
    if "test" in summary:
        test = summary["test"]
        yield (
            percent(test["weighted_f1"]),
            f"weighted F1 (%) of {count(test['n_clips'], 'test clip')}, by the mean of all models' logits",
        )


def _alignment(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for way in ("video_to_audio", "audio_to_video"):
        if f"{way}_at_10" in summary:
            words = (
                f"recall at 10 (%), {way.replace('_', ' ')}, of {summary['n_held_out']:,} held-out pairs; "
                f"chance is {percent(summary['chance_at_10'])}"
            )
            yield percent(summary[f"{way}_at_10"]), words
