"""One of MERTools' folders of features: which clips, of which layers, and the files."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mer_store.errors import UsageError
from mer_store.layers import Layer
from mer_store.spec import IMPORTED, Spec
from mer_store.store.feature_set import FeatureSet
from mer_store.store.finite import fits
from mer_store.store.ledger import Status
from pipelines.exchange.coverage import Coverage
from pipelines.exchange.new_file import Put, put_new
from pipelines.exchange.npy import npy_bytes
from pipelines.lines import line_options

#: Clips read at once.
BATCH_CLIPS = {"utterance": 512, "frame": 16}
DTYPES = {"audio": "float32", "visual": "float32", "text": "float16"}
#: What MERTools writes for a clip without a sentence is ``numpy.zeros`` as it comes.
ZERO_DTYPES = {"audio": "float32", "visual": "float32", "text": "float64"}


@dataclass
class Written:
    """What became of a folder's files."""

    puts: dict[Put, list[str]] = field(default_factory=lambda: {put: [] for put in Put})
    """Clips, by what became of their files."""
    zeros: list[str] = field(default_factory=list)
    """Clips whose files hold zeros."""
    wide: list[str] = field(default_factory=list)
    """Clips in float32, since float16 does not hold their values."""


@dataclass(frozen=True)
class FeatureFolder:
    """One folder of features that is to be written."""

    feature_set: FeatureSet
    layers: tuple[Layer, ...]
    """Summed, where there are several."""
    path: Path
    coverage: Coverage

    @property
    def spec(self) -> Spec:
        """Of the feature set."""
        return self.feature_set.spec

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the files: MERTools' own, or, of what was imported, as it came."""
        imported = self.spec.weights == IMPORTED
        return np.dtype(self.spec.stored_dtype if imported else DTYPES[self.spec.modality])

    def zeros(self) -> NDArray[Any]:
        """Return what stands for a clip without features: (D,), or (1, D) at frame level.

        Raises
        ------
        UsageError
            No clip has features, so that D is not known.
        """
        name = str(self.layers[0])
        parts = self.feature_set.index.parts
        widths = {part.arrays[name].shape[1] for part in parts if name in part.arrays}
        if len(widths) != 1:
            raise UsageError(f"{self.spec.name}: no clip has features: how wide are zeros to be?")
        shape = (*widths,) if self.spec.level == "utterance" else (1, *widths)
        return np.zeros(shape, ZERO_DTYPES[self.spec.modality])

    def write(self, *, zeros: bool) -> Written:
        """Write one file a clip that has features and, where asked for, zeros for each empty one.

        A file that is there is compared, and never changed.
        """
        written = Written(zeros=self.coverage.ids(Status.EMPTY) if zeros else [])
        there = self.coverage.ids(Status.OK)
        self.path.mkdir(parents=True, exist_ok=True)
        with tqdm(
            total=len(there) + len(written.zeros), desc=self.path.name, unit=" clips",
            **line_options(sys.stderr),
        ) as bar:  # fmt: skip
            for clip_id, array in self._arrays(there, written):
                put = put_new(self.path / f"{clip_id}.npy", npy_bytes(array))
                written.puts[put].append(clip_id)
                bar.update()
        return written

    def _arrays(
        self, clip_ids: Sequence[str], written: Written
    ) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield what the files hold: features, then zeros."""
        for clip_id, values in self._values(clip_ids):
            dtype = self.dtype
            if values.dtype != dtype and not fits(values, dtype):
                dtype = np.dtype(np.float32)
                written.wide.append(clip_id)
            yield clip_id, values.astype(dtype, copy=False)
        if written.zeros:
            zeros = self.zeros()
            yield from ((clip_id, zeros) for clip_id in written.zeros)

    def _values(self, clip_ids: Sequence[str]) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield each clip's features: (D,) at utterance level, (T, D) at frame level."""
        size = BATCH_CLIPS[self.spec.level]
        dtype = np.float32 if len(self.layers) > 1 else None
        for start in range(0, len(clip_ids), size):
            ids = clip_ids[start : start + size]
            rows: Sequence[NDArray[Any]]
            if self.spec.level == "utterance":
                rows = list(self.feature_set.read(self.layers, ids, dtype))
            else:
                rows = self.feature_set.ragged(self.layers, ids, dtype)
            for clip_id, row in zip(ids, rows, strict=True):
                layers = np.moveaxis(row, -2, 0)
                yield clip_id, layers[0] if len(layers) == 1 else layers.sum(axis=0)
