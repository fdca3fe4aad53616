"""What an extractor is: media of a batch in, hidden states per clip out. It knows no store.

Shape letters: B clips in a batch, T frames, L layers, D feature width, N audio samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mer_store.layers import Layer

Floats = NDArray[np.float32]
#: In place of a visual model: cut faces out and keep them. In place of faces: take those that are kept.
CROPS = "crops"


class ClipProblem(Exception):  # noqa: N818 - an outcome of one clip, not an error of the program
    """A clip has no features. The text is the reason that goes into the ledger: one line, no clip id."""


class ClipFailed(ClipProblem):
    """Something is wrong with the clip's media: truncated, unreadable, not a video."""


class ClipEmpty(ClipProblem):
    """The clip has nothing to extract by nature: no face, no audio track, an empty transcript."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a clip comes from, as the clip list says."""

    clip_id: str
    path: Path | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Identity of the bytes that were extracted."""

    digest: str
    """``sha256:`` and 64 hex digits."""
    n_bytes: int
    mtime_ns: int | None
    """Modification time of the file, None for text."""


@dataclass(frozen=True, slots=True)
class Blob:
    """The bytes of one clip's source, read once: what is hashed is what is decoded."""

    clip_id: str
    origin: Origin
    path: Path | None
    data: bytes | None
    """The whole file, or None where it is too large to hold: then decode from `path`."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """One clip decoded and ready for the model."""

    clip_id: str
    payload: Any
    """What the extractor's own ``__call__`` takes."""
    size: int
    """Cost in the extractor's batching unit: audio samples, images or tokens."""
    media_s: float
    """Seconds of media, 0 for text."""
    n_frames: int
    """Rows the clip will have at frame level (an upper bound where faces are found only later)."""


@dataclass(frozen=True, slots=True)
class Want:
    """Layers asked for at each level."""

    utterance: tuple[Layer, ...] = ()
    frame: tuple[Layer, ...] = ()


@dataclass(frozen=True, slots=True)
class States:
    """What an extractor gives for one clip: float32, finite or not as the model computed it."""

    utterance: Mapping[Layer, Floats] = field(default_factory=dict)
    """[D] per layer."""
    frame: Mapping[Layer, Floats] = field(default_factory=dict)
    """[T, D] per layer, T >= 1 and the same for all layers."""
    tables: Mapping[str, Mapping[str, NDArray[Any]]] = field(default_factory=dict)
    """Facts stored beside the features, e.g. ``images``: columns of equal length, one row an image."""


@dataclass(frozen=True)
class Identity:
    """What an extractor contributes to a spec, and what it offers. Known before its weights are loaded."""

    modality: str
    model: str
    weights: str
    recipe: str
    preprocessing: Mapping[str, Any]
    pooling: str
    """Of the utterance level."""
    compute_dtype: str
    trained: bool
    layers: tuple[Layer, ...]
    """Every layer offered, in order."""
    widths: Mapping[Layer, int]
    """D of each layer offered."""
    default_layers: tuple[Layer, ...]
    stored_dtype: str | None = None
    """Where what is stored is not for the user to choose: bytes."""


@dataclass(frozen=True)
class ExtractorRequest:
    """What a person asks for. Small and picklable, so that a worker can build the same extractor."""

    modality: str
    model: str | None = None
    """Hub name, local folder or ``tiny``; None is the modality's default."""
    recipe: str = "default"
    device: str = "auto"
    compute_dtype: str = "auto"
    """``auto`` is float32 on a CPU and bfloat16 on a GPU."""
    faces: str = "auto"
    """Visual only: ``centerface``, ``pyfeat``, ``openface``, stored ``crops``, or as the recipe says."""
    images_per_second: float | None = None
    """Visual only: None takes every image."""
    detect_every: int = 1
    """Visual only: the detector sees every so many-th image, between them faces are followed."""
    crops: str | None = None
    """Visual only: the spec of the stored crops that are taken, as JSON."""
    adapter: str | None = None
    """Audio only: the folder of trained adapters, through which the upper blocks are run."""

    @property
    def needs_media(self) -> bool:
        """Whether nothing but the clip's media will do."""
        return self.adapter is None and self.crops is None

    @property
    def stream_name(self) -> str:
        """What to call it beside others: its modality, or ``crops``."""
        is_crops = self.modality == "visual" and (self.model or "").partition(":")[0] == CROPS
        return CROPS if is_crops else self.modality


class Extractor(Protocol):
    """Built cheaply, loads weights at its first call. `open` and `load` run in threads, the call in one."""

    identity: Identity
    batch_limit: int
    """A batch's padded size, in the unit of `Loaded.size`, at most (a batch holds at least one clip)."""
    equal_sizes: bool
    """True where a batch must hold clips of one size only, since padding would change the numbers."""

    def path(self, source: Source) -> Path | None:
        """Return the file whose bytes `open` reads, there or not; None for a transcript."""

    def open(self, source: Source) -> Blob:
        """Read the source's bytes. Raises `ClipProblem` where there are none."""

    def load(self, blob: Blob) -> Loaded:
        """Decode. Raises `ClipProblem`."""

    def __call__(self, batch: Sequence[Loaded], want: Want) -> list[States | ClipProblem]:
        """Return one outcome per clip of `batch`, in its order. A row never depends on its batch mates."""


@runtime_checkable
class TakesStates(Protocol):
    """An extractor that can begin with what a feature set holds instead of media."""

    @property
    def base_spec(self) -> Mapping[str, Any] | None:
        """The spec of that feature set; None where this one needs media."""

    @property
    def base_layers(self) -> tuple[int, ...]:
        """Its layers that are taken."""

    def load_states(self, clip_id: str, states: NDArray[Any]) -> Loaded:
        """Take a clip's rows [T, D] of one layer, or [L, D] pooled. Raises ValueError where they are none."""
