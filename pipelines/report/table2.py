"""The paper's Table 2: its eleven rows, each a bundled config, beside what this store gives."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mer_store.clips.clip_list import ClipList
from mer_store.errors import MerStoreError, UsageError
from mer_store.store.store import Store
from pipelines.report.readable import config_of, readable_runs
from pipelines.report.table2_rows import (
    ADAPT,
    ADAPTED,
    ALIGN,
    ALIGNED,
    ROWS,
    Filled,
    Need,
    Row,
    values_of,
)
from pipelines.train.run_folder import RunFolder
from pipelines.train.settings import find_config, read_settings, to_toml
from pipelines.train.trainers import TRAINERS, Job, trainer_of

__all__ = ["ROWS", "Filled", "Row", "Table2", "overrides_of", "values_of"]


class Table2:
    """Fills the table, row after row.

    Parameters
    ----------
    overrides
        Settings of a task that go over the bundled configs: ``{"adapter": ["epochs=5"]}``.
    trains
        Train what is missing; else only what is finished is shown: of each row the run with these settings,
        or the newest that keeps what the row's config says.
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

    @property
    def alignment(self) -> RunFolder | None:
        """The alignment that was trained or found on the way."""
        return self._aligned

    def _fill(self, row: Row) -> Filled:
        reason = "not trained"
        try:
            run = self._trained(row) if self._trains else self._find(row.task, row.config)
        except MerStoreError as error:
            run, reason = None, str(error).splitlines()[0]
        if run is None:
            return Filled(row, None, self._next_step(row, reason))
        if row.config == ADAPT:
            self._adapter = run
        return Filled(
            row,
            run,
            other_settings=not _has(run, self._settings(row.task, row.config)),
            aligned_to_adapted=self._is_aligned_to_adapted(run),
        )

    def _settings(self, task: str, config: str, extra: Sequence[str] = ()) -> Any:
        return read_settings(trainer_of(task).Settings, config, extra)

    def _trained(self, row: Row) -> RunFolder:
        """Return a row's run, trained now unless it is finished already."""
        return self._train(row.task, row.config, self._fingerprints(row))

    def _train(self, task: str, config: str, extra: Sequence[str]) -> RunFolder:
        settings = self._settings(task, config, [*self._overrides.get(task, ()), *extra])
        job = Job(self._store, self._clip_list, settings, self._runs, self._device)
        return trainer_of(task).train(job)

    def _find(self, task: str, config: str) -> RunFolder | None:
        """Return the newest finished run of a config; one with the very settings asked for wins."""
        said = tomllib.loads(find_config(config).read_text(encoding="utf-8"))
        asked = self._settings(task, config, self._overrides.get(task, ()))
        found = [run for run in readable_runs(self._runs)[0] if run.task == task]
        exact = [run for run in found if _has(run, asked)]
        near = [run for run in found if _keeps(config_of(run), said)]
        best = exact or near
        return best[-1] if best else None

    def _fingerprints(self, row: Row) -> list[str]:
        """Return what a row's config leaves open: which adapters' features, which aligned ones."""
        extra = []
        adapted = self._adapted() if {ADAPTED, ALIGNED} & set(row.needs) else ""
        if adapted and ADAPTED in row.needs:
            extra.append(f"audio.fingerprint={adapted}")
        if ALIGNED in row.needs:
            table = "visual" if row.task == "fusion" else "features"
            extra.append(f"{table}.fingerprint={self._align(adapted)}")
        return extra

    def _adapted(self) -> str:
        """Return the fingerprint of what the adapters of row HLFT(16-21) made, empty where there are none."""
        if self._adapter is None:
            return ""
        digest = self._adapter.summary["adapter"]
        for feature_set in self._store.feature_sets():
            made_by = feature_set.spec.preprocessing.get("adapter")
            if isinstance(made_by, dict) and made_by["digest"] == digest:
                return feature_set.spec.fingerprint
        raise UsageError(
            f"{self._store.where}: no features of the adapters in {self._adapter.path}"
        )

    def _align(self, adapted: str) -> str:
        """Return the fingerprint of the aligned visual features, made now unless they are there."""
        if self._aligned is None:
            extra = [f"audio.fingerprint={adapted}"] if adapted else []
            self._aligned = self._train(ALIGN, ALIGN, extra)
        return str(self._aligned.summary["fingerprint"])

    def _is_aligned_to_adapted(self, run: RunFolder) -> bool:
        aligned = [item["spec"]["preprocessing"].get("aligned", {}) for item in run.inputs]
        adapted = {
            found.spec.fingerprint
            for found in self._store.feature_sets()
            if "adapter" in found.spec.preprocessing
        }
        return any(one.get("audio") in adapted for one in aligned)

    def _next_step(self, row: Row, reason: str) -> str:
        """Return why a row has no run, and the command that comes next."""
        for need in row.needs:
            if (step := self._step(need)) is not None:
                return f"no {need.words}: run `{step}`"
        if reason != "not trained":
            return reason
        return f"{reason}: run `mer-store train {row.task} --config {row.config}`"

    def _step(self, need: Need) -> str | None:
        """Return the command that makes `need`, or what comes before it; None where it is there."""
        if self._there(need):
            return None
        for earlier in need.after:
            if need is ADAPTED and self._adapter is not None:
                break
            if (step := self._step(earlier)) is not None:
                return step
        if need is not ADAPTED:
            return need.command
        if self._adapter is None:
            return f"mer-store train adapter --config {ADAPT}"
        return need.command.replace("RUN", str(self._adapter.path))

    def _there(self, need: Need) -> bool:
        if need is ADAPTED and self._adapter is not None:
            try:
                return bool(self._adapted())
            except UsageError:
                return False
        return need.in_store(self._store)


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


def _has(run: RunFolder, settings: Any) -> bool:
    """Whether a run has these settings, whichever of the features they leave open it took."""
    return _without_fingerprints(config_of(run)) == _without_fingerprints(
        tomllib.loads(to_toml(settings))
    )


def _without_fingerprints(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_fingerprints(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if key != "fingerprint"
    }


def _keeps(values: Mapping[str, Any], said: Mapping[str, Any]) -> bool:
    """Whether `values` have all that `said` says."""
    return all(
        _keeps(values.get(key, {}), value) if isinstance(value, dict) else values.get(key) == value
        for key, value in said.items()
    )
