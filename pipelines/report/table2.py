"""The paper's Table 2: its eleven rows, each a bundled config, beside what this store gives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mer_store.clips.clip_list import ClipList
from mer_store.errors import MerStoreError, UsageError
from mer_store.store.store import Store
from pipelines.train.run_folder import CONFIG, RunFolder, list_runs
from pipelines.train.settings import read_settings, to_toml
from pipelines.train.trainers import TRAINERS, Job, trainer_of

ADAPT, ALIGN = "hlft16-21", "align"
EXTRACT = "mer-store extract --modality"


@dataclass(frozen=True)
class Row:
    """One row of the paper's table."""

    name: str
    config: str
    task: str
    hint: str
    """Makes its features."""
    published: float | None = None
    """The paper's weighted F1 on the test set of MER2024-SEMI, in percent."""

    @property
    def takes_adapted(self) -> bool:
        """Whether it reads features of the adapters that row HLFT(16-21) trains."""
        return self.task == "fusion"

    @property
    def takes_aligned(self) -> bool:
        """Whether it reads aligned visual features."""
        return self.config in {"clipl-a", "a+v-aligned", "a+v+t"}


ADAPTED_HINT = f"{EXTRACT} audio --adapter RUN"
#: Only the last row's score is known to us: the paper's abstract.
ROWS = (
    Row("HL", "hl", "probe", f"{EXTRACT} audio --recipe mertools2024"),
    Row("HL(18)", "hl18", "probe", f"{EXTRACT} audio --layers 16-21"),
    Row("HL(16-21)", "hl16-21", "probe", f"{EXTRACT} audio --layers 16-21"),
    Row("HLFT(18)", "hlft18", "adapter", f"{EXTRACT} audio --level frame --layers 15"),
    Row("HLFT(16-21)", ADAPT, "adapter", f"{EXTRACT} audio --level frame --layers 15"),
    Row("CLIPL", "clipl", "probe", f"{EXTRACT} visual"),
    Row("CLIPL-A", "clipl-a", "probe", "mer-store train align"),
    Row("A+V", "a+v", "fusion", ADAPTED_HINT),
    Row("A+V-aligned", "a+v-aligned", "fusion", "mer-store train align"),
    Row("A+T", "a+t", "fusion", f"{EXTRACT} text"),
    Row("A+V+T", "a+v+t", "fusion", f"{EXTRACT} text", 88.90),
)


@dataclass(frozen=True)
class Filled:
    """A row with what is known of it."""

    row: Row
    run: RunFolder | None = None
    why: str = ""
    """Why there is no run, and what to do."""

    @property
    def saw_labels(self) -> bool:
        """Whether its features were made by adapters that had seen the labels of all folds."""
        inputs = self.run.inputs if self.run else []
        return any("adapter" in item["spec"]["preprocessing"] for item in inputs)


class Table2:
    """Fills the table, row after row.

    Parameters
    ----------
    overrides
        Settings of a task that go over the bundled configs: ``{"adapter": ["epochs=5"]}``.
    trains
        Train what is missing; else only what is finished is shown.
    """

    def __init__(
        self, store: Store, clip_list: ClipList, runs: Path, *, device: str = "auto",
        overrides: Mapping[str, Sequence[str]] | None = None, trains: bool = True,
    ) -> None:  # fmt: skip
        self._store, self._clip_list, self._runs = store, clip_list, runs
        self._device, self._overrides, self._trains = device, overrides or {}, trains
        self._adapter: RunFolder | None = None
        self._aligned: RunFolder | None = None

    def fill(self, rows: Sequence[Row] = ROWS) -> list[Filled]:
        """Return the rows, trained where they can be."""
        return [self._fill(row) for row in rows]

    def _fill(self, row: Row) -> Filled:
        try:
            run = self._find(row.task, row.config, self._extra(row))
        except MerStoreError as error:
            reason = str(error).splitlines()[0]
            return Filled(row, None, f"{reason}: run `{self._hint(row)}`")
        if run is None:
            return Filled(
                row, None, f"not trained: run `mer-store train {row.task} --config {row.config}`"
            )
        if row.config == ADAPT:
            self._adapter = run
        return Filled(row, run)

    def _find(self, task: str, config: str, extra: Sequence[str]) -> RunFolder | None:
        """Return the finished run of a config, trained now where that is asked for."""
        trainer = trainer_of(task)
        own = self._overrides.get(task, ())
        settings = read_settings(trainer.Settings, config, [*own, *extra])
        if self._trains:
            job = Job(self._store, self._clip_list, settings, self._runs, self._device)
            return trainer.train(job)
        written = to_toml(settings)
        for run in reversed(list_runs(self._runs)):
            if run.task == task and (run.path / CONFIG).read_text(encoding="utf-8") == written:
                return run
        return None

    def _extra(self, row: Row) -> list[str]:
        """Return what a row's config leaves open: which adapters' features, which aligned ones."""
        extra = []
        adapted = self._adapted() if row.takes_adapted or row.takes_aligned else ""
        if row.takes_adapted and adapted:
            extra.append(f"audio.fingerprint={adapted}")
        if row.takes_aligned:
            aligned = self._align(adapted)
            extra.append(
                f"{'visual' if row.task == 'fusion' else 'features'}.fingerprint={aligned}"
            )
        return extra

    def _adapted(self) -> str:
        """Return the fingerprint of what the adapters of row HLFT(16-21) made, empty where there is none."""
        if self._adapter is None:
            return ""
        digest = self._adapter.summary["adapter"]
        for feature_set in self._store.feature_sets():
            made_by = feature_set.spec.preprocessing.get("adapter")
            if isinstance(made_by, dict) and made_by["digest"] == digest:
                return feature_set.spec.fingerprint
        raise UsageError(f"{self._store.path}: no features of the adapters in {self._adapter.path}")

    def _align(self, adapted: str) -> str:
        """Return the fingerprint of the aligned visual features."""
        if self._aligned is None:
            self._aligned = self._find(
                "align", ALIGN, [f"audio.fingerprint={adapted}"] if adapted else []
            )
        if self._aligned is None:
            raise UsageError("no alignment is trained")
        return str(self._aligned.summary["fingerprint"])

    def _hint(self, row: Row) -> str:
        hint = row.hint
        try:
            lacks_adapted = (row.takes_adapted or row.takes_aligned) and not self._adapted()
        except UsageError:
            lacks_adapted = True
        if lacks_adapted:
            hint = ADAPTED_HINT if self._adapter else f"mer-store train adapter --config {ADAPT}"
        return hint.replace("RUN", str(self._adapter.path)) if self._adapter else hint


def overrides_of(assignments: Sequence[str]) -> dict[str, list[str]]:
    """Sort ``task.key=value`` by task.

    Raises
    ------
    UsageError
        One names no task.
    """
    overrides: dict[str, list[str]] = {}
    for assignment in assignments:
        task, _, rest = assignment.partition(".")
        if task not in TRAINERS or not rest:
            raise UsageError(
                f"--set {assignment}: expected TASK.KEY=VALUE, the task one of {', '.join(TRAINERS)}"
            )
        overrides.setdefault(task, []).append(rest)
    return overrides


def values_of(filled: Filled) -> dict[str, Any]:
    """Return a row as plain values, scores in percent."""
    summary = filled.run.summary if filled.run else {}
    test = summary.get("test", {})
    return {
        "row": filled.row.name,
        "weighted_f1_mean": _percent(summary.get("weighted_f1_mean")),
        "weighted_f1_std": _percent(summary.get("weighted_f1_std")),
        "test_weighted_f1": _percent(test.get("weighted_f1")),
        "selection": summary.get("selection"),
        "n_clips": summary.get("n_clips"),
        "published_test_weighted_f1": filled.row.published,
        "features_saw_labels": filled.saw_labels,
        "run": str(filled.run.path) if filled.run else None,
        "note": filled.why or None,
    }


def _percent(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 2)
