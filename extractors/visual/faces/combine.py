"""Gather the images of several threads into one call of a detector that computes on a GPU."""

from collections.abc import Callable, Sequence
from threading import Lock

from extractors.visual.faces.detector import Detections, Rgb


class CombinedDetector:
    """Calls `detect` from one thread at a time, with the images of all threads that wait.

    Whoever gets the lock takes what the others have brought meanwhile, so batches grow with the number of
    clips that are loaded at once and nobody waits for a batch to fill.

    Parameters
    ----------
    detect
        What finds faces in a list of images.
    max_images
        Images a call at most; one thread's own images always go together.
    """

    def __init__(self, detect: Callable[[list[Rgb]], list[Detections]], max_images: int) -> None:
        self._detect = detect
        self._max_images = max_images
        self._waiting: list[_Ticket] = []
        self._queue, self._work = Lock(), Lock()

    def __call__(self, images: Sequence[Rgb]) -> list[Detections]:
        """Return the faces of each image. An error of `detect` is raised where its images are."""
        ticket = _Ticket(images)
        with self._queue:
            self._waiting.append(ticket)
        with self._work:
            if not ticket.served:
                self._serve(self._take(ticket))
        if ticket.error is not None:
            raise ticket.error
        return ticket.found

    def _take(self, own: "_Ticket") -> "list[_Ticket]":
        """Take `own` from the queue, and others in their order while they fit."""
        with self._queue:
            if own in self._waiting:
                self._waiting.remove(own)
            taken, n_images = [own], len(own.images)
            while self._waiting and n_images + len(self._waiting[0].images) <= self._max_images:
                taken.append(self._waiting.pop(0))
                n_images += len(taken[-1].images)
        return taken

    def _serve(self, tickets: "list[_Ticket]") -> None:
        try:
            found = self._detect([image for ticket in tickets for image in ticket.images])
        except Exception as error:  # noqa: BLE001 - raised again in its thread
            if len(tickets) > 1:  # whose images they are that it cannot take: each alone
                for ticket in tickets:
                    self._serve([ticket])
                return
            tickets[0].error, tickets[0].served = error, True
            return
        start = 0
        for ticket in tickets:
            ticket.found = found[start : start + len(ticket.images)]
            ticket.served = True
            start += len(ticket.images)


class _Ticket:
    """One thread's images and what became of them."""

    def __init__(self, images: Sequence[Rgb]) -> None:
        self.images = list(images)
        self.found: list[Detections] = []
        self.error: Exception | None = None
        self.served = False
