"""A model that is called with care: one bad clip fails alone, and a broken model blames no clip."""

from extractors.contract import (
    ClipFailed,
    ClipProblem,
    Extractor,
    ExtractorRequest,
    Loaded,
    States,
    Want,
)
from mer_store.errors import MerStoreError
from pipelines.feed import one_line
from pipelines.resident import discard, note_answer, witness
from pipelines.unfit import UnansweredError, UnfitError


class GuardedModel:
    """Calls a model for the clips of a part.

    Parameters
    ----------
    extractor
        The model.
    want
        Layers asked for.
    request
        What the model was built from: a clip that it answered is kept for as long as this process has it.
    """

    def __init__(self, extractor: Extractor, want: Want, request: ExtractorRequest) -> None:
        self._extractor, self._want, self._request = extractor, want, request
        self._error: Exception | None = None
        """The first since the last answer."""

    def __call__(self, batch: list[Loaded]) -> list[States | ClipProblem]:
        """Return one outcome per clip; where the batch raises, try its clips one by one.

        Raises
        ------
        UnfitError
            The weights do not load.
        """
        try:
            states = self._extractor(batch, self._want)
        except MerStoreError as error:  # weights that do not load
            discard(self._request)
            raise UnfitError.of(error, self._request.stream_name) from error
        except Exception as error:  # noqa: BLE001 - any error of a model library; see check()
            self._error = self._error or error
            if len(batch) > 1:
                return [state for loaded in batch for state in self([loaded])]
            return [ClipFailed(f"the model raised {type(error).__name__}: {one_line(error)}")]
        self._error = None
        note_answer(self._request, min(batch, key=lambda loaded: loaded.size), self._want)
        return states

    def check(self) -> None:
        """Raise if it may be the model that fails, and no clip is to blame.

        Where it raised since its last answer, it is asked once more for a clip that it has answered before.

        Raises
        ------
        UnansweredError
            It raised for every clip that it was ever given here.
        UnfitError
            It answers no more.
        """
        if self._error is None:
            return
        known = witness(self._request)
        if known is None:
            raise UnansweredError(self._said("failed on every clip", self._error)) from self._error
        loaded, want = known
        try:
            self._extractor([loaded], want)
        except Exception as error:
            text = self._said("fails on clips that it took before", error)
            raise UnfitError(text) from error

    def _said(self, what: str, error: Exception) -> str:
        return (
            f"model {self._extractor.identity.model}: {what}, first with "
            f"{type(self._error).__name__}: {one_line(self._error or error)}. Nothing was recorded for the "
            f"clips of this part; try another --device, --compute-dtype or --model"
        )
