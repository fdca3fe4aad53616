"""Where a clip's face crops come from: a detector over its video, OpenFace's files, or a feature set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from extractors.contract import CROPS, Blob, ClipFailed, ExtractorRequest, Source
from extractors.media.blob import once, read_blob
from extractors.visual.faces.crops import FaceClip
from extractors.visual.faces.detector import build_detector
from extractors.visual.faces.openface import OpenFaceCrops
from extractors.visual.faces.stored import StoredCrops
from extractors.visual.faces.video import VideoFaces
from mer_store.errors import UsageError

CODE_VERSION = 1
"""Raised where the code here, in ``faces`` or in the extractor gives other numbers for the same settings."""
CROP_PX = 224
RECIPE_FACES = {"default": "centerface", "mertools2024": "openface", "mertools2023": "openface"}
"""Where each recipe's faces come from. MERTools takes all of OpenFace's crops, in both years alike."""


class FaceSource(Protocol):
    """Where crops come from."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that decides the crops, as JSON values."""

    def path(self, source: Source) -> Path | None:
        """Return the file that is read for a clip."""

    def find(self, blob: Blob) -> FaceClip:
        """Return its crops. Raises `ClipProblem`."""


def face_source(request: ExtractorRequest, device: torch.device) -> FaceSource:
    """Return where the crops come from. Raises `UsageError` where the recipe or faces cannot be had."""
    if request.recipe not in RECIPE_FACES:
        raise UsageError(f"recipe {request.recipe!r}: visual has {', '.join(RECIPE_FACES)}")
    if request.faces == CROPS:
        return StoredCrops(request.crops)
    of_recipe = RECIPE_FACES[request.recipe]
    faces = of_recipe if request.faces == "auto" else request.faces
    if request.recipe != "default" and faces != of_recipe:
        raise UsageError(
            f"recipe {request.recipe}: its faces are {of_recipe}, got {faces!r}; use the default recipe"
        )
    if request.detect_every < 1 or (faces == "openface" and request.detect_every > 1):
        raise UsageError(
            f"--detect-every {request.detect_every}: expected 1 or more, and a detector; openface's "
            f"crops are taken as they are"
        )
    if faces == "openface":
        return OpenFaceCrops(request.images_per_second)
    return VideoFaces(
        build_detector(faces, str(device)), CROP_PX, request.images_per_second,
        detect_every=request.detect_every,
    )  # fmt: skip


class ReadsFaces:
    """An extractor's way from a clip to its faces. Extractors in one pass over a clip share what is found."""

    def __init__(self, faces: FaceSource) -> None:
        self._faces = faces

    def path(self, source: Source) -> Path | None:
        """Return the video, or the stored crops where the recipe takes those."""
        return self._faces.path(source)

    def open(self, source: Source) -> Blob:
        """Read the file. Raises `ClipFailed`."""
        path = self.path(source)
        if path is None:
            raise ClipFailed("no path in the clip list")
        return read_blob(source.clip_id, path)

    def _find(self, blob: Blob) -> FaceClip:
        """Return the clip's crops. Raises `ClipEmpty` without a face, `ClipFailed`."""
        return once(("faces", blob.clip_id, self._faces.settings), lambda: self._faces.find(blob))
