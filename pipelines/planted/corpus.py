"""A planted corpus: its clips, what each of them shows, and the best score that anybody can reach on it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mer_store.clips.clip import Clip
from mer_store.clips.words import CLASSES
from pipelines.planted.settings import PlantedSettings
from pipelines.planted.signal import Floats, Signal, ViewName

REASONS = {"audio": "no audio track", "visual": "no face", "text": "empty transcript"}
FAILED_REASON = "planted failure: the clip's media cannot be read"


@dataclass(frozen=True)
class PlantedCorpus:
    """Clips as columns; labelled ones first."""

    settings: PlantedSettings
    signal: Signal
    clip_ids: tuple[str, ...]
    label: NDArray[np.int64]
    """[clips]: the true class of every clip, also of those whose label is hidden."""
    split: tuple[str, ...]
    shown: Mapping[ViewName, Floats]
    """t [clips, k] of each view, NaN where the clip lacks the modality."""
    status: Mapping[str, NDArray[np.str_]]
    """[clips] per modality: ``ok``, ``empty`` or ``failed``."""

    @property
    def scored(self) -> NDArray[np.bool_]:
        """[clips]: split ``labelled``."""
        return np.array([split == "labelled" for split in self.split])

    def clips(self) -> list[Clip]:
        """Return the rows of the clip list."""
        shows = {"labelled", "test"} if self.settings.show_test_labels else {"labelled"}
        return [
            Clip(clip_id, None, None, CLASSES[label] if split in shows else None, split)
            for clip_id, label, split in zip(
                self.clip_ids, self.label.tolist(), self.split, strict=True
            )
        ]

    def oracle_f1(self, views: list[ViewName], of: NDArray[np.bool_] | None = None) -> float:
        """Return the best weighted F1 to be reached with some views, on clips that have any of them.

        Parameters
        ----------
        of
            [clips]: which clips are scored; None takes the labelled ones.
        """
        rows = np.flatnonzero(self.scored if of is None else of)
        shown = {name: t[rows] for name, t in self.shown.items()}
        return self.signal.oracle_f1(self.label[rows], shown, views)

    def oracle(self) -> dict[str, float]:
        """Return the best weighted F1 on the labelled clips.

        By modality (all its layers), by audio layer, for the best audio layer with other modalities, for all.
        """
        views = {
            modality: [name for name in self.signal.views if name[0] == modality]
            for modality in ("audio", "text", "visual")
        }
        chosen = dict(views)
        chosen |= {f"audio {layer}": [("audio", layer)] for layer in self.settings.audio_layers}
        best = f"audio {self.settings.best_layer}"
        if best in chosen:
            chosen |= {
                f"{best} + text": chosen[best] + views["text"],
                f"{best} + visual": chosen[best] + views["visual"],
                f"{best} + visual + text": chosen[best] + views["visual"] + views["text"],
            }
        chosen["all"] = list(self.signal.views)
        return {what: self.oracle_f1(names) for what, names in chosen.items()}


def draw_corpus(settings: PlantedSettings) -> PlantedCorpus:
    """Draw a corpus. The same settings give the same numbers."""
    rng = np.random.default_rng([settings.seed, 1])
    signal = Signal.draw(settings.views(), settings.separation, settings.tau, rng)
    n_labelled, n_unlabelled = settings.n_labelled, settings.n_unlabelled
    label = np.concatenate([signal.draw_labels(n, rng) for n in (n_labelled, n_unlabelled)])
    shown = signal.draw_shown(signal.draw_latents(label, rng), rng)
    status = _draw_status(settings, len(label), rng)
    for name, t in shown.items():
        t[status[name[0]] != "ok"] = np.nan
    split = ["labelled"] * n_labelled + ["unlabelled"] * n_unlabelled
    for row in (n_labelled + rng.permutation(n_unlabelled)[: settings.n_test]).tolist():
        split[row] = "test"
    clip_ids = tuple(f"planted_{number:08d}" for number in range(len(label)))
    return PlantedCorpus(settings, signal, clip_ids, label, tuple(split), shown, status)


def _draw_status(
    settings: PlantedSettings, n_clips: int, rng: np.random.Generator
) -> dict[str, NDArray[np.str_]]:
    """Leave out modalities at random, never all of a clip's; two clips fail as a whole."""
    shares = {"audio": settings.no_speech, "visual": settings.no_face, "text": settings.no_text}
    absent = {name: rng.random(n_clips) < share for name, share in shares.items()}
    absent["text"] &= ~(absent["audio"] & absent["visual"])
    failed = np.zeros(n_clips, bool)
    failed[rng.permutation(n_clips)[:2]] = True
    return {
        name: np.where(failed, "failed", np.where(rows, "empty", "ok"))
        for name, rows in absent.items()
    }
