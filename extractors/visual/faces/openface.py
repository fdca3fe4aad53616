"""Crops that OpenFace made before: MERTools' ``openface_face/<clip>/<clip>.npy``, every image, BGR."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from extractors.contract import Blob, ClipEmpty, ClipFailed, Source
from extractors.visual.faces.crops import FaceClip, HeldCrops
from mer_store.errors import UsageError

FOLDER = "openface_face"


class OpenFaceCrops:
    """Stored crops, one uint8 array [T, 112, 112, 3] a clip, blue first; turned to red first for the model.

    They tell neither time nor place nor which images had no face, so there is no table of images.
    """

    settings: Mapping[str, Any] = {
        "source": "openface",
        "stored_order": "BGR",
        "given_order": "RGB",
        "images": "every crop stored",
    }

    def __init__(self, images_per_second: float | None = None) -> None:
        if images_per_second is not None:
            raise UsageError(
                f"images per second {images_per_second}: OpenFace's crops have no times; leave it out, "
                "or take --faces centerface"
            )

    def path(self, source: Source) -> Path | None:
        """Return the clip's array: the source itself if it is one, else beside the videos' folder."""
        if source.path is None or source.path.suffix == ".npy":
            return source.path
        name = source.clip_id
        return source.path.parent.parent / FOLDER / name / f"{name}.npy"

    def find(self, blob: Blob) -> FaceClip:
        """Read the crops.

        Raises
        ------
        ClipEmpty
            OpenFace saw no face: the array is empty.
        ClipFailed
            The file is no such array.
        """
        array = _read(blob)
        if array.size == 0:
            raise ClipEmpty("no face")
        if (
            array.dtype != np.uint8
            or array.ndim != 4
            or array.shape[1:] != (array.shape[1],) * 2 + (3,)
        ):
            raise ClipFailed(
                f"expected OpenFace crops, uint8 [T, 112, 112, 3]; got {array.dtype} {list(array.shape)}"
            )
        return FaceClip(HeldCrops(array, blue_first=True), table=None, media_s=0.0)


def _read(blob: Blob) -> Any:
    try:
        if blob.data is not None:
            return np.load(io.BytesIO(blob.data), allow_pickle=False)
        return np.load(str(blob.path), mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ClipFailed(f"not a .npy array: {(str(error).splitlines() or [''])[0]}") from error
