"""The extractors there are."""

from importlib import import_module
from typing import cast

from extractors.contract import Extractor, ExtractorRequest
from mer_store.errors import UsageError

EXTRACTORS = {
    "audio": "extractors.audio.extractor:AudioExtractor",
    "visual": "extractors.visual.extractor:VisualExtractor",
    "text": "extractors.text.extractor:TextExtractor",
}


def build_extractor(request: ExtractorRequest) -> Extractor:
    """Build the extractor asked for, without loading its weights."""
    if request.modality not in EXTRACTORS:
        raise UsageError(f"modality {request.modality!r}: expected one of {', '.join(EXTRACTORS)}")
    module, _, name = EXTRACTORS[request.modality].partition(":")
    return cast("Extractor", getattr(import_module(module), name)(request))
