"""The extractors that this process holds: models are large, and loaded once."""

import threading
from collections.abc import Sequence

from extractors.contract import Extractor, ExtractorRequest
from extractors.table import build_extractor

_held: dict[ExtractorRequest, Extractor] = {}
_answered: set[ExtractorRequest] = set()
_lock = threading.Lock()


def resident_extractors(requests: Sequence[ExtractorRequest]) -> list[Extractor]:
    """Return this process's extractors, each built once; those of other runs are let go."""
    with _lock:
        for other in _held.keys() - set(requests):
            del _held[other]
            _answered.discard(other)
        for request in requests:
            if request not in _held:
                _held[request] = build_extractor(request)
        return [_held[request] for request in requests]


def note_answer(request: ExtractorRequest) -> None:
    """Remember that a model held here gave an answer: it is sound, whatever it says of other clips."""
    _answered.add(request)


def has_answered(request: ExtractorRequest) -> bool:
    """Tell whether a model held here gave an answer."""
    return request in _answered


def let_go() -> None:
    """Let all extractors go."""
    with _lock:
        _held.clear()
        _answered.clear()
