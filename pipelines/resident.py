"""The extractors that this process holds: models are large, and loaded once."""

import threading
from collections.abc import Collection, Sequence

from extractors.contract import Extractor, ExtractorRequest, Loaded, Want
from extractors.table import build_extractor

_held: dict[ExtractorRequest, Extractor] = {}
_witnesses: dict[ExtractorRequest, tuple[Loaded, Want]] = {}
_lock = threading.Lock()


def resident_extractors(
    requests: Sequence[ExtractorRequest], keep: Collection[ExtractorRequest] = ()
) -> list[Extractor]:
    """Return this process's extractors, each built once; those that are not to be kept are let go."""
    with _lock:
        for other in _held.keys() - {*requests, *keep}:
            del _held[other]
            _witnesses.pop(other, None)
        for request in requests:
            if request not in _held:
                _held[request] = build_extractor(request)
        return [_held[request] for request in requests]


def note_answer(request: ExtractorRequest, loaded: Loaded, want: Want) -> None:
    """Keep a clip that a model held here answered: with it can be told whether the model still does."""
    known = _witnesses.get(request)
    if known is None or loaded.size < known[0].size:
        _witnesses[request] = (loaded, want)


def witness(request: ExtractorRequest) -> tuple[Loaded, Want] | None:
    """Return a clip that a model held here answered, and what was wanted of it; None where there is none."""
    return _witnesses.get(request)


def discard(request: ExtractorRequest) -> None:
    """Let go of an extractor whose model does not load: mended, it is another model."""
    with _lock:
        _held.pop(request, None)


def let_go() -> None:
    """Let all extractors go."""
    with _lock:
        _held.clear()
        _witnesses.clear()
