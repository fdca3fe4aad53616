"""Connecting to a dask scheduler that runs somewhere."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from threading import Thread
from urllib.request import urlopen

from distributed import Client
from distributed.comm.addressing import parse_address, parse_host_port
from distributed.comm.registry import get_backend

from mer_store.errors import UsageError
from pipelines.cluster import settings

DEFAULT_PORT = 8786


@contextmanager
def connected(scheduler: str, option: str = "--scheduler ") -> Iterator[Client]:
    """Connect to the scheduler at that address.

    Raises
    ------
    UsageError
        No scheduler answers there.
    """
    try:
        _knock(scheduler)
        client = _within(
            2 * settings.CONNECT_S,
            partial(Client, scheduler, timeout=settings.CONNECT_S, set_as_default=False),
        )
    except (OSError, TimeoutError, ValueError) as error:
        raise UsageError(
            f"{option}{scheduler}: no dask scheduler answers there "
            f"({str(error) or 'something else does'}); start one with `dask scheduler`"
        ) from error
    with client:
        yield client


def serves_pages(link: str | None) -> bool:
    """Tell whether a dashboard answers at `link`: schedulers name one that is not there, too."""
    if not link or not link.startswith("http"):
        return False
    try:
        with urlopen(link, timeout=1.0) as answer:  # noqa: S310 - http, see above
            return bool(answer.status == HTTPStatus.OK)
    except OSError:
        return False


def _knock(address: str) -> None:
    """Fail at once where the address is none or nobody listens: dask would go on trying."""
    kind, place = parse_address(address)
    get_backend(kind)
    if kind in ("tcp", "tls"):
        with socket.create_connection(parse_host_port(place, DEFAULT_PORT), settings.CONNECT_S):
            pass


def _within(limit_s: float, make: Callable[[], Client]) -> Client:
    """Call `make`, for no longer than `limit_s`: at a port that speaks no dask it would hang for ever."""
    made: Future[Client] = Future()

    def call() -> None:
        try:
            made.set_result(make())
        except BaseException as error:  # noqa: BLE001 - raised again below
            made.set_exception(error)

    Thread(target=call, daemon=True).start()
    return made.result(limit_s)
