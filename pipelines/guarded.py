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
from pipelines.resident import has_answered, note_answer
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
        What the model was built from: that it ever answered is remembered for as long as this process has it.
    """

    def __init__(self, extractor: Extractor, want: Want, request: ExtractorRequest) -> None:
        self._extractor, self._want, self._request = extractor, want, request
        self._first_error: Exception | None = None

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
            raise UnfitError.of(error) from error
        except Exception as error:  # noqa: BLE001 - any error of a model library; see check()
            self._first_error = self._first_error or error
            if len(batch) > 1:
                return [state for loaded in batch for state in self([loaded])]
            return [ClipFailed(f"the model raised {type(error).__name__}: {one_line(error)}")]
        note_answer(self._request)
        return states

    def check(self) -> None:
        """Raise if the model never gave an answer here: then it may be the model, and no clip is to blame.

        Raises
        ------
        UnansweredError
            It raised for every clip that it was ever given.
        """
        if self._first_error is not None and not has_answered(self._request):
            error = self._first_error
            raise UnansweredError(
                f"model {self._extractor.identity.model}: failed on every clip, first with "
                f"{type(error).__name__}: {one_line(error)}. Nothing was recorded for these clips; "
                f"try another --device, --compute-dtype or --model"
            ) from error
