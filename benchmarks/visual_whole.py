"""The visual path as a command: a video to features, to stored crops, and stored crops to features."""

import io
import shutil
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gpu_runs import stored

from extractors.visual.clip import EMBED
from extractors.visual.faces.packed import FORMATS
from mer_store.cli.main import cli
from mer_store.store.ledger import Status
from mer_store.store.store import Store


@dataclass(frozen=True)
class Wholes:
    """Seconds of each command, a round at a time, and what the crops take on disk."""

    from_video_s: list[float]
    crops_s: Mapping[str, list[float]]
    """Format -> video to stored crops."""
    from_crops_s: Mapping[str, list[float]]
    """Format -> stored crops to features."""
    crop_bytes: Mapping[str, int]
    """Format -> bytes of the store, index and records included."""


@dataclass(frozen=True)
class Paths:
    """The path's files and the options of all its commands."""

    folder: Path
    clips: Path
    model: Path
    options: Sequence[str]

    def extract(self, store: Path, *options: str) -> float:
        """Run `mer-store extract` in this process; return its seconds."""
        command = ["extract", "--store", str(store), "--clips", str(self.clips)]
        command += ["--modality", "visual", "--progress", "none", *self.options, *options]
        log = io.StringIO()
        started_s = time.perf_counter()
        with redirect_stdout(log), redirect_stderr(log):
            code = cli.main(command, standalone_mode=False)
        wall_s = time.perf_counter() - started_s
        if code:
            raise SystemExit(f"extract {' '.join(options)} ended with {code}:\n{log.getvalue()}")
        return wall_s

    def rows(self, store: Path) -> tuple[list[str], np.ndarray]:
        """Return the clips that show a face, and their features [B, 1, D]."""
        features = Store.open(store).features("visual")
        ids = sorted(clip_id for clip_id, status, _ in features.outcomes() if status is Status.OK)
        return ids, features.read([EMBED], ids)


def measure(paths: Paths, n_rounds: int) -> Wholes:
    """Time the commands in turns, each into a fresh store but the last, which reads the crops."""
    model = str(paths.model)
    from_video_s: list[float] = []
    crops_s, from_crops_s = defaultdict(list), defaultdict(list)
    crop_bytes = {}
    for number in range(n_rounds + 1):
        stores = {name: paths.folder / f"{name}-{number}" for name in ("video", *FORMATS)}
        taken_s = paths.extract(stores["video"], "--model", model)
        if number:  # the first round loads code
            from_video_s.append(taken_s)
        for kind in FORMATS:
            packed_s = paths.extract(stores[kind], "--model", f"crops:{kind}")
            crop_bytes[kind] = stored(stores[kind])[0]
            second_s = paths.extract(stores[kind], "--model", model, "--faces", "crops")
            if number:
                crops_s[kind].append(packed_s)
                from_crops_s[kind].append(second_s)
        check(paths, stores)
        for store in stores.values():
            shutil.rmtree(store)
    return Wholes(from_video_s, crops_s, from_crops_s, crop_bytes)


def check(paths: Paths, stores: Mapping[str, Path]) -> None:
    """Stop where pixels that were kept do not give the very rows of the video."""
    (kept_ids, kept), (video_ids, video) = (paths.rows(stores[name]) for name in ("uint8", "video"))
    if kept_ids != video_ids or not np.array_equal(kept, video):
        raise SystemExit("rows from crops stored as uint8 differ from those from the video")
