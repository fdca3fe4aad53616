"""A device's memory: how much of a batch it takes, and what is done when it takes less."""

import sys
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch

from mer_store.errors import UsageError


class Sliceable(Protocol):
    """A batch: a sequence, or a tensor."""

    def __len__(self) -> int: ...
    def __getitem__(self, which: Any, /) -> Any: ...


Items = TypeVar("Items", bound=Sliceable)
Result = TypeVar("Result")

#: Of the free memory, for what a batch needs while it runs. The rest is for weights that are not loaded yet,
#: for the allocator's gaps, and for neighbours on the same GPU.
SHARE = 0.5
#: How libraries under torch say it, which torch does not turn into its own error.
_OTHER_WORDS = ("_STATUS_ALLOC_FAILED", "CUDA error: out of memory", "can't allocate memory")


def units_that_fit(device: torch.device, bytes_per_unit: float, enough: int) -> int:
    """Return the padded size of a batch that this device has memory for now.

    Parameters
    ----------
    device
        On a CPU `enough` is taken as it is: it is small there.
    bytes_per_unit
        What a sample, an image or a token needs while the model runs.
    enough
        What keeps the device busy; a larger batch would gain nothing.
    """
    if device.type == "cpu":
        return enough
    return max(1, min(enough, int(SHARE * free_bytes(device) / bytes_per_unit)))


def padded_size(items: Sequence[Sized]) -> int:
    """Return the size of a batch whose items are all padded to the longest."""
    return len(items) * max(map(len, items))


def free_bytes(device: torch.device) -> int:
    """Return a GPU's free memory, with what this process holds of it and does not use."""
    n_free, _ = torch.cuda.mem_get_info(device)
    n_unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return n_free + n_unused


def ran_out(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OTHER_WORDS)


@contextmanager
def weights_must_fit(model: str, dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    """Let a model load, or say that memory ran out: that is no clip's fault.

    Raises
    ------
    UsageError
        There is no memory for the weights.
    """
    try:
        yield
    except RuntimeError as error:
        if not ran_out(error):
            raise
        kind = str(dtype).removeprefix("torch.")
        raise UsageError(
            f"model {model}: its weights in {kind} do not fit into the memory of {device}; use a larger "
            f"GPU, or --device cpu"
        ) from error


class Halving:
    """Runs batches in as many pieces as memory asks for, and never again in larger ones.

    A batch that memory ran out of is cut to half its padded size; what was computed before is kept. Rows do
    not depend on their batch mates, so the results are the same.
    """

    def __init__(self) -> None:
        self.limit = sys.maxsize
        """Padded size of a piece, at most."""

    def __call__(
        self,
        items: Items,
        size: Callable[[Items], int],
        run: Callable[[Items], Sequence[Result]],
        too_large: Callable[[Any], Result],
    ) -> list[Result]:
        """Return the results of `run` over all items, in their order.

        Parameters
        ----------
        items
            A batch, anything that can be sliced.
        size
            Padded size of some of them: it grows with their number.
        run
            Gives results for some of them; it leaves nothing behind where memory runs out.
        too_large
            Gives the result of an item that does not fit alone, or raises.
        """
        results: list[Result] = []
        start = 0
        while start < len(items):
            piece = self._next_piece(items[start:], size)
            if (found := _unless_it_ran_out(run, piece)) is not None:
                results += found
                start += len(piece)
                continue
            # Here the error is gone, and with it the frames that held the tensors of the attempt.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if len(piece) == 1:
                results.append(too_large(piece[0]))
                start += 1
            else:
                self.limit = max(1, size(piece) // 2)
        return results

    def _next_piece(self, items: Items, size: Callable[[Items], int]) -> Items:
        """Return as many of the first items as the limit lets through, one at least."""
        n_items = len(items)
        while n_items > 1 and size(items[:n_items]) > self.limit:
            n_items -= 1
        piece: Items = items[:n_items]
        return piece


def _unless_it_ran_out(
    run: Callable[[Items], Sequence[Result]], piece: Items
) -> Sequence[Result] | None:
    try:
        return run(piece)
    except RuntimeError as error:
        if not ran_out(error):
            raise
        return None
