"""The extractors there are."""

from importlib import import_module
from typing import cast

from extractors.contract import CROPS, Extractor, ExtractorRequest
from mer_store.errors import UsageError

EXTRACTORS = {
    "audio": "extractors.audio.extractor:AudioExtractor",
    "visual": "extractors.visual.extractor:VisualExtractor",
    "text": "extractors.text.extractor:TextExtractor",
}
CROPPER = "extractors.visual.cropper:Cropper"
ADAPTED = {"audio": "extractors.audio.adapted:AdaptedExtractor"}


def build_extractor(request: ExtractorRequest) -> Extractor:
    """Build the extractor asked for, without loading its weights."""
    if request.modality not in EXTRACTORS:
        raise UsageError(f"modality {request.modality!r}: expected one of {', '.join(EXTRACTORS)}")
    table = EXTRACTORS if request.adapter is None else ADAPTED
    if request.modality not in table:
        raise UsageError(
            f"--adapter: expected modality {', '.join(ADAPTED)}; got {request.modality}"
        )
    place = table[request.modality]
    if request.stream_name == CROPS:
        place = CROPPER
    module, _, name = place.partition(":")
    return cast("Extractor", getattr(import_module(module), name)(request))
