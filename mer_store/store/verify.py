"""Verifying a store: every file against its record, and the exact clips and layers that are hit."""

from collections.abc import Iterator

from mer_store.errors import StoreDamagedError
from mer_store.store.commit import read_record
from mer_store.store.feature_set import FeatureSet
from mer_store.store.layout import Folders
from mer_store.store.part_check import Finding, PartCheck
from mer_store.store.record import misfit
from mer_store.store.store import Store

__all__ = ["Finding", "verify"]


def verify(subject: Store | FeatureSet, *, deep: bool = False) -> list[Finding]:
    """Check everything that is committed, reading every byte.

    Parameters
    ----------
    subject
        A store or one of its feature sets.
    deep
        Also look for values that are not finite.

    Returns
    -------
    list
        What is wrong; empty where nothing is.

    Raises
    ------
    UsageError
        Something may not be read.
    """
    feature_sets = subject.feature_sets() if isinstance(subject, Store) else [subject]
    return [
        finding for feature_set in feature_sets for finding in _verify_all(feature_set, deep=deep)
    ]


def _verify_all(feature_set: FeatureSet, *, deep: bool) -> Iterator[Finding]:
    folders = Folders(feature_set.path)
    for part_id in feature_set.part_ids():
        path = f"commits/{part_id}.json"
        try:
            record = read_record(folders, part_id)
        except StoreDamagedError as error:
            yield Finding(feature_set.name, part_id, path, str(error))
            continue
        if record is None:
            continue  # removed while we looked
        if problem := misfit(record, feature_set.spec):
            yield Finding(feature_set.name, part_id, path, problem, record.layers, record.clip_ids)
        if record.expected_part_id() != part_id:
            problem = "the record is named for other work than it holds"
            yield Finding(feature_set.name, part_id, path, problem, record.layers, record.clip_ids)
        yield from PartCheck(feature_set.name, folders.part(part_id), record).findings(deep=deep)
