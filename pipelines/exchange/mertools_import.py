"""A MERTools folder of features, read into a feature set of its own."""

import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from mer_store.clips.clip_list import ClipList
from mer_store.store.layout import CACHE_FOLDER
from mer_store.store.ledger import Status
from mer_store.store.store import Store
from mer_store.store.writer import ClipRows, PartWriter
from pipelines.exchange.coverage import named
from pipelines.exchange.mertools_clip import values_of
from pipelines.exchange.mertools_plan import ImportPlan, make_plan
from pipelines.exchange.npy import NotFeaturesError
from pipelines.exchange.options import ImportOptions
from pipelines.interrupt import StopFile, stop_on_signal
from pipelines.lines import line_options
from pipelines.versions import versions_of

EXIT_INTERRUPTED = 130
N_REASONS = 5


@dataclass
class Report:
    """What became of the clips that were read."""

    statuses: Counter[str] = field(default_factory=Counter)
    """``ok``, ``empty``, ``failed`` and ``unchanged``."""
    reasons: dict[str, list[str]] = field(default_factory=dict)
    """Clips without features, by reason."""
    stale: list[str] = field(default_factory=list)
    """Imported before from other bytes, and again now."""
    rounded: list[str] = field(default_factory=list)
    pooled: list[str] = field(default_factory=list)
    stopped: bool = False


def import_mertools(
    source: Path, store: Store, clip_list: ClipList | None, options: ImportOptions
) -> int:
    """Read ``features/<name>/<clip>.npy`` of the clips of a list, or of all, into the store.

    Returns
    -------
    int
        1 where a listed clip is missing from the folder or has no readable file, else 0; 130 interrupted.

    Raises
    ------
    UsageError
        There is no such folder, or what its features are cannot be told.
    """
    plan = make_plan(source, store, clip_list, options)
    spec = plan.feature_set.spec
    _say(f"{spec.modality}/{spec.name}: layer {plan.layer}, stored in {spec.stored_dtype}")
    if plan.missing:
        _say(f"missing: {len(plan.missing)} listed clips: {named(plan.missing)}")
    if plan.extra:
        _say(f"extra: {len(plan.extra)} files of clips that are not listed: {named(plan.extra)}")
    store.sweep()
    report = _run(plan, store, options.part_clips)
    before = Counter(Status(int(status)).name for status in plan.ledger.status[plan.same])
    _summarise(plan, report, before)
    if report.stopped:
        return EXIT_INTERRUPTED
    return 1 if plan.missing or report.statuses["failed"] or before["FAILED"] else 0


def _run(plan: ImportPlan, store: Store, part_clips: int) -> Report:
    report = Report()
    stop = StopFile(store.path / CACHE_FOLDER)
    n_to_do = int((~plan.same).sum())
    bar = tqdm(
        total=n_to_do, desc=plan.feature_set.name, unit=" clips", disable=not n_to_do,
        **line_options(sys.stderr),
    )  # fmt: skip
    versions = versions_of("mer-store", "numpy", "zarr")
    with stop_on_signal(stop), bar:
        for rows in plan.parts(part_clips):
            attempt = int(plan.ledger.attempt[rows].max()) + 1
            with PartWriter(plan.feature_set, [plan.layer], attempt, versions) as writer:
                for row in rows:
                    if stop.asked:
                        break
                    _take(plan, row, writer, report)
                    bar.update()
                if writer.n_clips:
                    writer.commit()
            if stop.asked:
                break
        report.stopped = stop.asked
    return report


def _take(plan: ImportPlan, row: int, writer: PartWriter, report: Report) -> None:
    """Read a clip's files, and add what they hold to the part unless it is what the store has."""
    clip_id, files, known = plan.clip_ids[row], plan.files[row], bool(plan.known[row])
    n_bytes: int | None = files.n_bytes
    mtime_ns: int | None = files.mtime_ns
    digest, values, reason = None, None, ""
    try:
        digest, datas = files.read()
        if known and digest == plan.ledger.digest[row]:
            report.statuses["unchanged"] += 1
            return
        values = values_of(datas, plan.feature_set.spec.level, plan.feature_set.spec.stored_dtype)
        reason = values.reason
        if values.rows is not None and values.rows.shape[1] != plan.width:
            raise NotFeaturesError(f"D of {values.rows.shape[1]}, the others have {plan.width}")
        status = "empty" if values.rows is None else "ok"
    except NotFeaturesError as error:
        status, reason = "failed", str(error)
    except OSError as error:  # nothing is known of its bytes: it is tried again
        status, reason = "failed", f"cannot be read: {error.strerror}"
        n_bytes = mtime_ns = None
    if known and digest is None:  # it says nothing new of the bytes that were imported
        report.statuses[status] += 1
        report.reasons.setdefault(reason, []).append(clip_id)
        return
    layers = {plan.layer: values.rows} if values and values.rows is not None else {}
    clip = ClipRows(clip_id, status, reason or None, digest, n_bytes, mtime_ns, layers)
    added = writer.add(clip)
    report.statuses[added.status] += 1
    if added.reason:
        report.reasons.setdefault(added.reason, []).append(clip_id)
    if known:
        report.stale.append(clip_id)
    if values and added.status == "ok":
        report.rounded += [clip_id] if values.rounded else []
        report.pooled += [clip_id] if values.pooled else []


def _summarise(plan: ImportPlan, report: Report, before: Counter[str]) -> None:
    if report.stale:
        _say(
            f"stale: {len(report.stale)} clips changed since, imported again: {named(report.stale)}"
        )
    if report.pooled:
        _say(f"pooled: {len(report.pooled)} clips of several rows, stored as their mean: "
             f"{named(report.pooled)}")  # fmt: skip
    if report.rounded:
        _say(f"rounded: {len(report.rounded)} clips hold values that {plan.feature_set.spec.stored_dtype} "
             f"does not hold exactly: {named(report.rounded)}")  # fmt: skip
    for reason, clip_ids in list(report.reasons.items())[:N_REASONS]:
        _say(f"  {len(clip_ids)} x {reason}: {named(clip_ids)}")
    if len(report.reasons) > N_REASONS:
        _say(
            f"  and {len(report.reasons) - N_REASONS} more reasons; `mer-store show CLIP` says why"
        )
    n = report.statuses
    words = f"{n['ok']} stored, {n['empty']} empty, {n['failed']} failed"
    n_same = sum(before.values()) + n["unchanged"]
    _say(f"{words}, {n_same} there already ({before['FAILED']} of them failed)")
    if report.stopped:
        _say("stopped: run the same command again to go on")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
