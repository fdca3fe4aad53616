"""Crops that a feature set holds: no video is read, no face is looked for."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from extractors.contract import Blob, ClipFailed, Source
from extractors.visual.faces.crops import FaceClip, HeldCrops
from extractors.visual.faces.detector import Rgb
from extractors.visual.faces.packed import unpack
from mer_store.errors import UsageError


class StoredCrops:
    """The crops of a feature set.

    Parameters
    ----------
    spec
        Of that feature set, as JSON.

    Raises
    ------
    UsageError
        No spec is given.
    """

    def __init__(self, spec: str | None) -> None:
        if spec is None:
            raise UsageError(
                "--faces crops: the store holds none; make them with "
                "`mer-store extract --modality visual --model crops`"
            )
        self.spec: Mapping[str, Any] = json.loads(spec)

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that decides the crops. Pixels kept as they were are those that a video gives."""
        made = self.spec["preprocessing"]
        lossless = made["crops"]["format"] == "uint8"
        return made["faces"] if lossless else {**made["faces"], "crops": made["crops"]}

    def path(self, source: Source) -> Path | None:
        """Return the video, by which it is known whether the crops are of these media."""
        return source.path

    def find(self, blob: Blob) -> FaceClip:  # noqa: ARG002
        """Raise `ClipFailed`: what is not stored cannot be had here."""
        raise ClipFailed(
            "no stored crops of these media: run extract --modality visual --model crops"
        )

    def of_rows(self, rows: Rgb) -> FaceClip:
        """Return the crops in a clip's stored rows. Raises ValueError where there are none."""
        images, media_s = unpack(rows)
        return FaceClip(HeldCrops(images), table=None, media_s=media_s)
