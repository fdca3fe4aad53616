"""A second look at parts that were found broken: what cannot be read now may be readable in a moment."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from mer_store.store.finding import Finding
from mer_store.store.store import Store
from mer_store.store.verify import verify


@dataclass(frozen=True)
class SecondLook:
    """What stays of a verification's findings."""

    findings: list[Finding]
    sound: list[Finding]
    """Those of parts that were sound when they were read again."""


def look_again(store: Store, findings: Sequence[Finding], *, deep: bool = False) -> SecondLook:
    """Verify the parts once more that `findings` speak of; other findings stay as they are."""
    parts: dict[tuple[str, str], set[str]] = defaultdict(set)
    for finding in findings:
        if finding.scope == "part":
            parts[finding.modality, finding.feature_set].add(finding.part_id)
    looked: set[tuple[str, str]] = set()
    broken: set[tuple[str, str, str]] = set()
    for feature_set in store.feature_sets():
        key = (feature_set.path.parent.name, feature_set.path.name)
        if key in parts:
            looked.add(key)
            again = verify(feature_set, deep=deep, only=parts[key])
            broken |= {(*key, finding.part_id) for finding in again if finding.scope == "part"}
    sound = [
        finding
        for finding in findings
        if finding.scope == "part"
        and (finding.modality, finding.feature_set) in looked
        and (finding.modality, finding.feature_set, finding.part_id) not in broken
    ]
    return SecondLook([finding for finding in findings if finding not in sound], sound)
