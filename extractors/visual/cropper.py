"""Face crops as an output of their own: a second visual model then needs no video."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extractors.contract import (
    CROPS,
    Blob,
    ClipProblem,
    ExtractorRequest,
    Identity,
    Loaded,
    States,
    Want,
)
from extractors.models.devices import pick_device
from extractors.visual.face_source import CODE_VERSION, ReadsFaces, face_source
from extractors.visual.faces.crops import FaceClip, Table
from extractors.visual.faces.detector import Rgb
from extractors.visual.faces.packed import FORMATS, ROW_BYTES, pack, settings_of
from mer_store.errors import UsageError
from mer_store.spec import BYTES

BATCH_CROPS = 512
PIECE_CROPS = 64


class Cropper(ReadsFaces):
    """Cuts faces out and stores them as images. Frame level: rows of bytes, as `packed` describes.

    Raises
    ------
    UsageError
        The recipe or the faces asked for cannot be had.
    """

    equal_sizes = False
    batch_limit = BATCH_CROPS

    def __init__(self, request: ExtractorRequest) -> None:
        self._kind = (request.model or CROPS).partition(":")[2] or FORMATS[0]
        if request.faces == CROPS or self._kind not in FORMATS:
            raise UsageError(
                f"--model {request.model}: expected {', '.join(f'{CROPS}:{kind}' for kind in FORMATS)}, and "
                f"faces of a video, not of crops"
            )
        super().__init__(face_source(request, pick_device(request.device)))
        self.identity = Identity(
            modality="visual",
            model=CROPS,
            weights="none",
            recipe=request.recipe,
            preprocessing={
                "faces": dict(self._faces.settings),
                "crops": settings_of(self._kind),
                "code": CODE_VERSION,
            },
            pooling="none",
            compute_dtype="none",
            trained=True,
            layers=(0,),
            widths={0: ROW_BYTES},
            default_layers=(0,),
            stored_dtype=BYTES,
        )

    def load(self, blob: Blob) -> Loaded:
        """Find, cut out and pack the clip's face. Raises `ClipEmpty` without one, `ClipFailed`."""
        clip = self._find(blob)
        rows, lengths = pack(clip.crops.chunks(PIECE_CROPS), self._kind, clip.media_s)
        packed = _Packed(rows, _table(clip, lengths))
        return Loaded(blob.clip_id, packed, len(clip.crops), clip.media_s, len(rows))

    def __call__(self, batch: Sequence[Loaded], want: Want) -> list[States | ClipProblem]:  # noqa: ARG002
        """Hand on what was packed."""
        return [
            States(frame={0: loaded.payload.rows}, tables={"images": loaded.payload.table})
            for loaded in batch
        ]


@dataclass(frozen=True)
class _Packed:
    rows: Rgb
    table: Table


def _table(clip: FaceClip, lengths: NDArray[np.int32]) -> Table:
    """Return the facts about images, and how many bytes each one's crop has: 0 without one."""
    if clip.table is None:
        return {"n_bytes": lengths}
    n_bytes = np.zeros(len(clip.table["row"]), np.int32)
    n_bytes[clip.table["row"] >= 0] = lengths
    return {**clip.table, "n_bytes": n_bytes}
