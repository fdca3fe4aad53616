"""Planning how many small parts become few large ones, so that no reader sees a difference.

A row of a new part claims what the row it was copied from was already believed for, and nothing else: the
layers that it serves, under the same attempt. So it makes no difference whether the old or the new part
comes first. A higher attempt would make the new part win for sure, but it would also beat what another
writer, or another store that is merged later, has to say under the attempt in between.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mer_store.layers import Layer
from mer_store.store.answers import Answers, Facts, Rows
from mer_store.store.clip_checks import CLIP_CHECKS
from mer_store.store.feature_set import FeatureSet
from mer_store.store.index import PartInfo
from mer_store.store.part_files import OFFSETS
from mer_store.store.record import part_id
from mer_store.store.row_contents import RowContents
from mer_store.store.served_rows import Duties

#: Clips of a new part, by level: 64 to 512 MB a layer.
PART_CLIPS = {"utterance": 16384, "frame": 1024}

Family = tuple[int, tuple[Layer, ...], tuple[tuple[str, str, tuple[int, ...]], ...]]
Group = tuple[tuple[int, ...], tuple[int, ...]]
"""Places of the layers, then of the tables, in the index's names."""


@dataclass(frozen=True)
class Unit:
    """One new part."""

    part_id: str
    attempt: int
    layers: tuple[Layer, ...]
    tables: tuple[str, ...]
    """With a slash at the end."""
    rows: Rows
    """Of the index, by clip id."""
    sources: tuple[int, ...]
    """Places in the index of the parts that the rows are in."""


class Plan:
    """What to make of the parts of a feature set.

    Parameters
    ----------
    feature_set
        With an index that is kept as it is.
    part_clips
        Clips of a new part; parts of more than half of that stay as they are.
    """

    def __init__(self, feature_set: FeatureSet, part_clips: int) -> None:
        index = feature_set.index
        self.index = index
        self._fingerprint = feature_set.spec.fingerprint
        self._stored_dtype = feature_set.spec.stored_dtype
        self._part_clips = part_clips
        self._answers = Answers(index)
        n_clips = np.bincount(self._answers.part, minlength=self._answers.n_parts)
        contents = RowContents(index, feature_set._reader.parts)
        self.duties = Duties(self._answers, n_clips * 2 > part_clips, contents, index.names)

    @property
    def facts(self) -> Facts:
        """What the index says now."""
        return self.duties.facts

    def units(self) -> Iterator[Unit]:
        """Yield the new parts; those that are there already are left out."""
        there = {part.part_id for part in self.index.parts}
        for (attempt, _, _), parts in self._families().items():
            units = [
                unit
                for group, rows in self._groups(parts).items()
                for unit in self._cut(attempt, group, rows)
            ]
            if len(units) < len(parts):
                yield from (unit for unit in units if unit.part_id not in there)

    def _families(self) -> dict[Family, list[int]]:
        """Return the parts that can be joined, by what they have in common."""
        families: dict[Family, list[int]] = defaultdict(list)
        for part in np.flatnonzero(self.duties.sources).tolist():
            info = self.index.parts[part]
            if self._is_writable(info):
                families[info.attempt, info.layers, _schema(info)].append(part)
        for family in [family for family in families if not family[2]]:  # no clip of it is ok
            others = [f for f in families if f[:2] == family[:2] and f[2]]
            if others:
                home = max(others, key=lambda other: len(families[other]))
                families[home] += families.pop(family)
        return families

    def _is_writable(self, info: PartInfo) -> bool:
        """Tell whether our writer makes such arrays: the stored type, or float32 where it was widened."""
        types = {self._stored_dtype, "float32"}
        layers = [info.arrays[str(n)] for n in info.layers if str(n) in info.arrays]
        return all(array.dtype in types for array in layers)

    def _groups(self, parts: Sequence[int]) -> dict[Group, Rows]:
        """Return the rows to copy by the names they keep; failures go with rows of the same layers."""
        duties, answers = self.duties, self._answers
        rows = np.flatnonzero(duties.live & np.isin(answers.part, parts))
        names = duties.names[:, rows]
        groups: dict[Group, list[int]] = defaultdict(list)
        n_layers = answers.n_layers
        for column, row in enumerate(rows.tolist()):
            held = np.flatnonzero(names[:, column])
            key = tuple(held[held < n_layers].tolist()), tuple(held[held >= n_layers].tolist())
            groups[key].append(row)
        for key in [key for key, group in groups.items() if not answers.is_ok[group].any()]:
            homes = [k for k, g in groups.items() if k[0] == key[0] and answers.is_ok[g].any()]
            if homes:
                groups[max(homes, key=lambda home: len(groups[home]))] += groups.pop(key)
        return {key: np.array(group) for key, group in groups.items()}

    def _cut(self, attempt: int, group: Group, rows: Rows) -> Iterator[Unit]:
        """Cut rows, in the order of clip ids, into parts; a clip's rows, where several, into several."""
        ids = self.index.ids(self._answers.clip[rows])
        order = np.argsort(ids, kind="stable")
        _, first, n_rows = np.unique(ids[order], return_index=True, return_counts=True)
        turn = np.arange(len(rows)) - np.repeat(first, n_rows)
        for number in range(n_rows.max()):
            own = order[turn == number]
            for start in range(0, len(own), self._part_clips):
                at = own[start : start + self._part_clips]
                yield self._unit(attempt, group, rows[at], ids[at].tolist())

    def _unit(self, attempt: int, group: Group, rows: Rows, clip_ids: list[str]) -> Unit:
        layers = tuple(self.index.layers[number] for number in group[0])
        tables = tuple(self.index.names[number] for number in group[1])
        name = part_id(self._fingerprint, clip_ids, layers, attempt)
        sources = tuple(np.unique(self._answers.part[rows]).tolist())
        return Unit(name, attempt, layers, tables, rows, sources)


def _schema(info: PartInfo) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    """Return what must be the same for rows to lie in one array, byte for byte."""
    own = {OFFSETS, CLIP_CHECKS}
    return tuple(
        (name, array.dtype, array.shape[1:])
        for name, array in sorted(info.arrays.items())
        if name not in own and not name.endswith(f"/{OFFSETS}")
    )
