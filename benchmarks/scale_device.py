"""A fake device of a set speed, and a corpus of clips for it: lengths as MER2024's, one small file for all.

The device sleeps for the audio seconds of a batch divided by its rate, and keeps a log of its time, one
file for each process, so that what killed workers had begun can be counted. Features are made of the clip's
number, so that any of them can be checked at the end.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from extractors.contract import Blob, ExtractorRequest, Identity, Loaded, Source, States, Want
from extractors.media.blob import read_blob
from mer_store.clips.clip_list import Clip, ClipList

N_CLIPS = 115_595
MEAN_S = 3.13
LAYERS = tuple(range(16, 22))
#: What tells workers' processes to use the fake device, how fast it is, and where it keeps its log.
RATE, LOG, WIDTH = "MER_STORE_SCALE_RATE", "MER_STORE_SCALE_LOG", "MER_STORE_SCALE_WIDTH"
#: Imported by every Python that finds it first on its path.
SITECUSTOMIZE = """
from extractors.table import EXTRACTORS
EXTRACTORS["audio"] = "scale_device:FakeDevice"
"""
_UNIT_HZ = 16_000
_SOME = np.random.default_rng(0).gamma(2.5, 1.0, 4096) + 0.3
LENGTHS_S = (_SOME * (MEAN_S / _SOME.mean())).tolist()


def seconds_of(number: int) -> float:
    """Length of a clip."""
    return LENGTHS_S[number % len(LENGTHS_S)]


def number_of(clip_id: str) -> int:
    """Return a clip's number."""
    return int(clip_id.rpartition("_")[2])


def clip_id_of(number: int) -> str:
    """Return the id of a clip."""
    return f"sample_{number:08}"


def features_of(number: int, layer: int, width: int) -> NDArray[np.float32]:
    """Return [D]: whole numbers that float16 holds exactly, other ones for each clip and layer."""
    start = (number * 7919 + layer * 104_729) % 2011
    return _RAMP[start : start + width]


_RAMP = ((np.arange(2011 + 8192) * 613) % 2039 - 1019).astype(np.float32)


class FakeDevice:
    """An extractor whose model is a sleep."""

    #: That of HuBERT on a GPU.
    batch_limit = 320 * _UNIT_HZ
    equal_sizes = False

    def __init__(self, request: ExtractorRequest) -> None:
        self._width = int(os.environ[WIDTH])
        self._rate = float(os.environ[RATE])
        self._log: int | None = None
        self.identity = Identity(
            request.modality, "fake", "sha256:0", "default", {}, "mean", "float32", False, LAYERS,
            dict.fromkeys(LAYERS, self._width), LAYERS,
        )  # fmt: skip

    def path(self, source: Source) -> Path | None:
        """Return the clip's file."""
        return source.path

    def open(self, source: Source) -> Blob:
        """Read the clip's file, as all extractors do."""
        assert source.path
        return read_blob(source.clip_id, source.path)

    def load(self, blob: Blob) -> Loaded:
        """Return the clip's number."""
        number = number_of(blob.clip_id)
        seconds = seconds_of(number)
        return Loaded(blob.clip_id, number, round(seconds * _UNIT_HZ), seconds, 1)

    def __call__(self, batch: Sequence[Loaded], want: Want) -> list[States]:
        """Sleep for as long as the device takes. What it costs to make up the features is part of that."""
        begun_s = time.time()
        media_s = sum(loaded.media_s for loaded in batch)
        self._note(f"b {begun_s:.6f} {len(batch)} {media_s:.6f}\n")
        states = [
            States(
                {layer: features_of(one.payload, layer, self._width) for layer in want.utterance}
            )
            for one in batch
        ]
        left_s = begun_s + media_s / self._rate - time.time()
        if left_s > 0:
            time.sleep(left_s)
        self._note(f"e {time.time():.6f}\n")
        return states

    def _note(self, line: str) -> None:
        if LOG not in os.environ:
            return
        if self._log is None:
            # Numbers of processes come again in a long run: threads use them up, too.
            path = Path(os.environ[LOG], f"{os.getpid()}.{time.time_ns()}")
            self._log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(self._log, line.encode())


@dataclass(frozen=True)
class Pass:
    """A batch on a device."""

    begun_s: float
    """By the clock on the wall."""
    ended_s: float | None
    """None where its process died first."""
    n_clips: int
    media_s: float


def read_log(path: Path) -> list[Pass]:
    """Return what one process's device did, in order."""
    passes: list[Pass] = []
    for line in path.read_text().splitlines():
        kind, *numbers = line.split()
        if kind == "b":
            passes.append(Pass(float(numbers[0]), None, int(numbers[1]), float(numbers[2])))
        else:
            last = passes[-1]
            passes[-1] = Pass(last.begun_s, float(numbers[0]), last.n_clips, last.media_s)
    return passes


def make_clips(folder: Path, n_clips: int) -> ClipList:
    """Return a list of `n_clips` clips, all of one small file."""
    folder.mkdir(parents=True, exist_ok=True)
    media = folder / "clip.wav"
    media.write_bytes(bytes(64))
    clips = (Clip(clip_id_of(n), media, None, None, None, None) for n in range(n_clips))
    return ClipList(tuple(clips), path=folder / "clips.csv")


def use_fake_device(folder: Path, rate: float, width: int) -> Path:
    """Put the fake device in the place of the audio model, here and in processes started from here.

    Returns
    -------
    Path
        The folder of its log.
    """
    log = folder / "log"
    log.mkdir()
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    os.environ |= {RATE: str(rate), WIDTH: str(width), LOG: str(log)}
    others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [str(folder), str(Path(__file__).parent), *filter(None, others)]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    from extractors.table import EXTRACTORS

    EXTRACTORS["audio"] = "scale_device:FakeDevice"
    return log
