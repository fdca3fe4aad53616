"""Workers that cannot do the work, whatever the clips are."""

from mer_store.errors import MerStoreError, StoreDamagedError, StoreFullError


class UnfitError(MerStoreError):
    """A process that cannot do the work: no model, no store, another mer-store. Another process may."""

    def __init__(self, text: str, exit_code: int = 1, worker: str = "", stream: str = "") -> None:
        super().__init__(text)
        self.exit_code = exit_code
        self.worker = worker
        """The address of the worker, as its scheduler knows it; empty in this process."""
        self.stream = stream
        """The modality whose model does not load; empty where it is not one alone."""

    def __reduce__(self) -> tuple[type["UnfitError"], tuple[str, int, str, str]]:
        """Pickle all there is: it comes from other machines."""
        return type(self), (str(self), self.exit_code, self.worker, self.stream)

    @classmethod
    def of(cls, error: Exception, stream: str = "") -> "UnfitError":
        """Return `error` as one of the process, or of one modality in it."""
        text = (
            str(error) if isinstance(error, MerStoreError) else f"{type(error).__name__}: {error}"
        )
        return cls(text, getattr(error, "exit_code", 1), stream=stream)


def is_of_the_process(error: Exception) -> bool:
    """Tell whether another process may do better: not where the store itself is full or damaged."""
    return not isinstance(error, StoreDamagedError | StoreFullError)


class UnansweredError(UnfitError):
    """A model that raised for every clip it was given: broken, or given none but what it cannot take."""
